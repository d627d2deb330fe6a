"""An emulator of ApsaraVideo VOD: the signed API, the notifications, the message queue, and media assets made from a seed.

It is written from docs/vod-protocol.md alone and shares no code with the client except the types in `worker.core`. A mistake in
the client can therefore not hide behind the same mistake in the emulator.

`library` makes the assets, `api` and `smq` answer the calls of the client, and `server` runs both as one process. Imports go from
`server` to `smq` and `api`, and from those to `library`.
"""
