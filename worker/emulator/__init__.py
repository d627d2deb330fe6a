"""A stand-in for ApsaraVideo VOD: the signed API, the notifications, and media invented from a seed.

It is written from vod-protocol alone and shares no code with the client, so that one cannot hide the other's mistake.
"""
