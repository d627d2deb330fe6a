"""The emulated media library, without I/O.

Modules belong here if they make media assets, their life cycle, their URLs or the bodies of their notifications from a seed, an
index and a time. They do not import anything about HTTP, the operations of the API or the running process.
"""
