"""The emulated VOD API.

Modules belong here if they decide how a call to the API is answered: signature, rate limit, injected faults, operations, search and
error bodies. `smq` and `server` import from here; modules here import only each other and `library`.
"""
