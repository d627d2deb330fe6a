"""The process around the emulator.

Modules belong here if they need the whole emulator: its configuration, the account that connects all parts, the control API below
`/emulator`, the notifier, the ASGI application and the HTTP server.
"""
