"""The source file of a medium: its size and length, and the audio and video streams inside it.

Everything is typed as vod-protocol 9.3 to 9.5 document it; `quirks` turns that into what VOD really sends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from worker.emulator.library.seeded_random import SeededRandom

FRAMES = (
    (640, 360),
    (1280, 720),
    (1280, 720),
    (1920, 1080),
    (1920, 1080),
    (1920, 1080),
    (1080, 1920),
    (720, 576),
    (3840, 2160),
    (3840, 2160),
    (7680, 4320),
)
RATES = ("25.0000", "25.0000", "30.0000", "29.970030", "23.976024", "50.0000", "59.940060", "60.0000", "15.0000", "59.337578")

#: codec, long name, tag string, tag, profiles, levels, pixel formats
_VIDEO_CODECS = (
    ("h264", "H.264 / AVC / MPEG-4 AVC / MPEG-4 part 10", "avc1", "0x31637661", ("Main", "High"), ("30", "31", "40"), ("yuv420p",)),
    ("hevc", "H.265 / HEVC (High Efficiency Video Coding)", "hvc1", "0x31637668", ("Main",), ("120", "150"), ("yuv420p",)),
    ("av1", "Alliance for Open Media AV1", "av01", "0x31307661", ("Main",), ("8", "13"), ("yuv420p", "yuv420p10le")),
    ("vp9", "Google VP9", "[0][0][0][0]", "0x0000", ("Profile 0",), ("-99",), ("yuv420p",)),
    ("mpeg2video", "MPEG-2 video", "[2][0][0][0]", "0x0002", ("4:2:2", "Main"), ("4", "8"), ("yuv422p",)),
)
_VIDEO_MIX = (0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4)

#: codec, long name, tag string, tag, sample format
_AUDIO_CODECS = (
    ("aac", "AAC (Advanced Audio Coding)", "mp4a", "0x6134706d", "fltp"),
    ("aac", "AAC (Advanced Audio Coding)", "mp4a", "0x6134706d", "fltp"),
    ("mp3", "MP3 (MPEG audio layer 3)", "[0][0][0][0]", "0x0000", "fltp"),
    ("opus", "Opus (Opus Interactive Audio Codec)", "[0][0][0][0]", "0x0000", "fltp"),
    ("ac3", "ATSC A/52A (AC-3)", "ac-3", "0x332d6361", "fltp"),
    ("pcm_s16le", "PCM signed 16-bit little-endian", "[1][0][0][0]", "0x0001", "s16"),
)
_LAYOUTS = (("1", "mono"), ("2", "stereo"), ("2", "stereo"), ("6", "5.1(side)"), ("8", "7.1"))
_LANGUAGES = ("und", "und", "eng", "zho", "jpn", "deu")
_HDR = ("HDR", "HDR10", "HLG", "DolbyVision", "HDRVivid")
#: "0:1" says that nobody knows (vod-protocol 7.10).
_SAR = ("1:1", "1:1", "0:1", "81:256")
#: Streams seldom begin together; a little before zero is ordinary (vod-protocol 7.5).
_STARTS = ("0.000000", "0.000000", "-0.046440", "0.042000", "1.400000")
_AUDIO_COUNTS = (1, 1, 1, 1, 1, 1, 2, 2, 3, 0)


@dataclass(frozen=True, slots=True)
class Source:
    """What the transcoded streams have to know of their source. Length in microseconds, `rate` in frames per second."""

    microseconds: int
    width: int = 0
    height: int = 0
    rate: str = ""
    hdr: str = ""

    @property
    def duration(self) -> str:
        return f"{self.microseconds // 1_000_000}.{self.microseconds % 1_000_000:06d}"

    def bytes_at(self, bitrate_bps: int) -> int:
        return max(1, bitrate_bps * self.microseconds // 8_000_000)

    def frames(self) -> int:
        return int(float(self.rate) * self.microseconds / 1_000_000) if self.rate else 0


def video_source(dice: SeededRandom) -> tuple[Source, dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """A video: what transcoding needs, the numbers of MezzanineInfo, its video streams, its audio streams."""
    width, height = dice.pick(FRAMES)
    codec = _VIDEO_CODECS[dice.pick(_VIDEO_MIX)]
    hdr = dice.pick(_HDR) if codec[0] in ("hevc", "av1") and dice.chance(0.6) else ""
    source = Source(_length(dice), width, height, dice.pick(RATES), hdr)
    # Six to sixteen hundredths of a bit for each pixel: an hour of 8K comes to about a hundred gigabytes.
    video_bps = max(64_000, int(width * height * float(source.rate) * dice.between(6, 16) / 100))
    videos = [_video_stream(dice, source, codec, video_bps, 0)]
    if dice.chance(0.06):
        # A second camera, or the cover picture that some containers carry as a stream.
        videos.append(_video_stream(dice, source, codec, video_bps // 8, 1))
    audios = [_audio_stream(dice, source, len(videos) + number) for number in range(dice.pick(_AUDIO_COUNTS))]
    bits = video_bps + sum(int(float(stream["Bitrate"]) * 1000) for stream in audios)
    facts = _facts(source, bits) | {"Width": width, "Height": height, "Fps": source.rate}
    return source, facts, videos, audios


def audio_source(dice: SeededRandom) -> tuple[Source, dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """The same for a medium that is only heard."""
    source = Source(_length(dice))
    audios = [_audio_stream(dice, source, number) for number in range(dice.pick((1, 1, 1, 2)))]
    return source, _facts(source, sum(int(float(stream["Bitrate"]) * 1000) for stream in audios)), [], audios


def _length(dice: SeededRandom) -> int:
    seconds = dice.pick((60, 600, 600, 3600, 18_000))
    return dice.between(1, seconds) * 1_000_000 + dice.below(1_000_000)


def _facts(source: Source, bits_per_second: int) -> dict[str, Any]:
    return {
        "Size": source.bytes_at(bits_per_second),
        "Duration": source.duration,
        "Bitrate": kbps(bits_per_second),
    }


def kbps(bits_per_second: int) -> str:
    return f"{bits_per_second // 1000}.{bits_per_second % 1000:03d}0"


def _video_stream(dice: SeededRandom, source: Source, codec: tuple[Any, ...], bitrate_bps: int, position: int) -> dict[str, Any]:
    name, long_name, tag_string, tag, profiles, levels, formats = codec
    stream = {
        "Index": str(position),
        "CodecName": name,
        "CodecLongName": long_name,
        "CodecTag": tag,
        "CodecTagString": tag_string,
        "CodecTimeBase": dice.pick(("1/50", "1001/60000", "968897/114984000")),
        "Timebase": dice.pick(("1/15360", "1/1000", "1/90000")),
        "Profile": "Main 10" if source.hdr and name == "hevc" else dice.pick(profiles),
        "Level": dice.pick(levels),
        "PixFmt": "yuv420p10le" if source.hdr else dice.pick(formats),
        "Width": str(source.width),
        "Height": str(source.height),
        "Rotate": dice.pick(("0", "0", "0", "90", "180", "270")),
        "Sar": dice.pick(_SAR),
        "Dar": dice.pick(("16:9", "16:9", "9:16", "0:1")),
        "HasBFrames": dice.pick(("0", "1", "2")),
        "Fps": source.rate,
        "AvgFPS": source.rate,
        "NumFrames": str(source.frames()),
        "StartTime": dice.pick(_STARTS),
        "Duration": source.duration,
        "Bitrate": kbps(bitrate_bps),
        "Lang": dice.pick(_LANGUAGES),
    }
    if source.hdr:
        stream["HDRType"] = source.hdr
    return stream


def _audio_stream(dice: SeededRandom, source: Source, position: int) -> dict[str, Any]:
    name, long_name, tag_string, tag, sample_format = dice.pick(_AUDIO_CODECS)
    channels, layout = dice.pick(_LAYOUTS)
    rate = dice.pick(("44100", "48000", "48000", "8000", "96000"))
    return {
        "Index": str(position),
        "CodecName": name,
        "CodecLongName": long_name,
        "CodecTag": tag,
        "CodecTagString": tag_string,
        "CodecTimeBase": f"1/{rate}",
        "Timebase": f"1/{rate}",
        "StartTime": dice.pick(_STARTS),
        "Duration": source.duration,
        "Bitrate": kbps(dice.between(24_000, 640_000)),
        "SampleRate": rate,
        "SampleFmt": sample_format,
        "Channels": channels,
        "ChannelLayout": layout,
        "NumFrames": str(int(rate) * source.microseconds // 1_024_000_000),
        "Lang": dice.pick(_LANGUAGES),
    }
