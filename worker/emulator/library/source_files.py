"""Make the source file of an asset: its size and length, and its audio and video streams.

Values have the types that vod-protocol 9.3 to 9.5 document. `quirks` changes them into what VOD really sends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from worker.emulator.library.json_types import JsonObject
from worker.emulator.library.seeded_random import SeededRandom


class VideoCodec(NamedTuple):
    """A video codec as ffprobe describes it, with the values that its streams can have."""

    name: str
    long_name: str
    tag_string: str
    tag: str
    profiles: tuple[str, ...]
    levels: tuple[str, ...]
    pixel_formats: tuple[str, ...]


class AudioCodec(NamedTuple):
    """An audio codec as ffprobe describes it."""

    name: str
    long_name: str
    tag_string: str
    tag: str
    sample_format: str


# A value that is listed several times is that much more likely.

#: Width and height in pixels.
FRAME_SIZES = (
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
#: Frames per second.
FRAME_RATES = (
    *("25.0000", "25.0000", "30.0000", "29.970030", "23.976024"),
    *("50.0000", "59.940060", "60.0000", "15.0000", "59.337578"),
)

_H264 = VideoCodec(
    "h264", "H.264 / AVC / MPEG-4 AVC / MPEG-4 part 10", "avc1", "0x31637661", ("Main", "High"), ("30", "31", "40"), ("yuv420p",)
)
_HEVC = VideoCodec(
    "hevc", "H.265 / HEVC (High Efficiency Video Coding)", "hvc1", "0x31637668", ("Main",), ("120", "150"), ("yuv420p",)
)
_AV1 = VideoCodec("av1", "Alliance for Open Media AV1", "av01", "0x31307661", ("Main",), ("8", "13"), ("yuv420p", "yuv420p10le"))
_VP9 = VideoCodec("vp9", "Google VP9", "[0][0][0][0]", "0x0000", ("Profile 0",), ("-99",), ("yuv420p",))
_MPEG2 = VideoCodec("mpeg2video", "MPEG-2 video", "[2][0][0][0]", "0x0002", ("4:2:2", "Main"), ("4", "8"), ("yuv422p",))
_VIDEO_CODECS = (_H264, _H264, _H264, _H264, _H264, _HEVC, _HEVC, _HEVC, _AV1, _AV1, _VP9, _MPEG2)

_AAC = AudioCodec("aac", "AAC (Advanced Audio Coding)", "mp4a", "0x6134706d", "fltp")
_AUDIO_CODECS = (
    _AAC,
    _AAC,
    AudioCodec("mp3", "MP3 (MPEG audio layer 3)", "[0][0][0][0]", "0x0000", "fltp"),
    AudioCodec("opus", "Opus (Opus Interactive Audio Codec)", "[0][0][0][0]", "0x0000", "fltp"),
    AudioCodec("ac3", "ATSC A/52A (AC-3)", "ac-3", "0x332d6361", "fltp"),
    AudioCodec("pcm_s16le", "PCM signed 16-bit little-endian", "[1][0][0][0]", "0x0001", "s16"),
)
#: Channels and channel layout.
_CHANNEL_LAYOUTS = (("1", "mono"), ("2", "stereo"), ("2", "stereo"), ("6", "5.1(side)"), ("8", "7.1"))
_LANGUAGES = ("und", "und", "eng", "zho", "jpn", "deu")
_HDR_TYPES = ("HDR", "HDR10", "HLG", "DolbyVision", "HDRVivid")
#: "0:1" means unknown (vod-protocol 7.10).
_SAMPLE_ASPECT_RATIOS = ("1:1", "1:1", "0:1", "81:256")
#: Seconds. Streams of one file start at slightly different times, also before zero (vod-protocol 7.5).
_START_TIMES = ("0.000000", "0.000000", "-0.046440", "0.042000", "1.400000")
#: Audio streams of a video file.
_AUDIO_STREAM_COUNTS = (1, 1, 1, 1, 1, 1, 2, 2, 3, 0)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """What transcoding needs to know about a source file. Width and height are 0 for audio."""

    microseconds: int
    width: int = 0
    height: int = 0
    #: Frames per second, "" for audio.
    frame_rate: str = ""
    hdr_type: str = ""

    @property
    def duration(self) -> str:
        """Return the length in seconds, with six decimals."""
        return f"{self.microseconds // 1_000_000}.{self.microseconds % 1_000_000:06d}"

    def size_at(self, bits_per_second: int) -> int:
        """Return the size in bytes at this bitrate, at least 1."""
        return max(1, bits_per_second * self.microseconds // 8_000_000)

    def frame_count(self) -> int:
        """Return the number of video frames."""
        return int(float(self.frame_rate) * self.microseconds / 1_000_000) if self.frame_rate else 0


@dataclass(frozen=True, slots=True)
class AnalysedFile:
    """A source file and the result of its analysis."""

    file: SourceFile
    #: Fields of MezzanineInfo about the whole file.
    fields: JsonObject
    video_streams: list[JsonObject]
    audio_streams: list[JsonObject]


def make_video_file(rng: SeededRandom) -> AnalysedFile:
    """Return a video file."""
    width, height = rng.pick(FRAME_SIZES)
    codec = rng.pick(_VIDEO_CODECS)
    hdr_type = rng.pick(_HDR_TYPES) if codec.name in ("hevc", "av1") and rng.chance(0.6) else ""
    file = SourceFile(_length(rng), width, height, rng.pick(FRAME_RATES), hdr_type)
    # 0.06 to 0.16 bits per pixel: an hour of 8K is about 100 GB.
    video_bps = max(64_000, int(width * height * float(file.frame_rate) * rng.between(6, 16) / 100))
    video_streams = [_video_stream(rng, file, codec, video_bps, 0)]
    if rng.chance(0.06):
        # A second camera, or the cover picture that some containers carry as a stream.
        video_streams.append(_video_stream(rng, file, codec, video_bps // 8, 1))
    audio_streams = [_audio_stream(rng, file, len(video_streams) + number) for number in range(rng.pick(_AUDIO_STREAM_COUNTS))]
    bits_per_second = video_bps + sum(int(float(stream["Bitrate"]) * 1000) for stream in audio_streams)
    fields = _file_fields(file, bits_per_second) | {"Width": width, "Height": height, "Fps": file.frame_rate}
    return AnalysedFile(file, fields, video_streams, audio_streams)


def make_audio_file(rng: SeededRandom) -> AnalysedFile:
    """Return an audio file."""
    file = SourceFile(_length(rng))
    audio_streams = [_audio_stream(rng, file, number) for number in range(rng.pick((1, 1, 1, 2)))]
    bits_per_second = sum(int(float(stream["Bitrate"]) * 1000) for stream in audio_streams)
    return AnalysedFile(file, _file_fields(file, bits_per_second), [], audio_streams)


def format_kbps(bits_per_second: int) -> str:
    """Return a bitrate in Kbps with four decimals, the unit of the API."""
    return f"{bits_per_second // 1000}.{bits_per_second % 1000:03d}0"


def _length(rng: SeededRandom) -> int:
    """Return a length in microseconds, at most five hours."""
    max_seconds = rng.pick((60, 600, 600, 3600, 18_000))
    return rng.between(1, max_seconds) * 1_000_000 + rng.below(1_000_000)


def _file_fields(file: SourceFile, bits_per_second: int) -> JsonObject:
    return {
        "Size": file.size_at(bits_per_second),
        "Duration": file.duration,
        "Bitrate": format_kbps(bits_per_second),
    }


def _video_stream(rng: SeededRandom, file: SourceFile, codec: VideoCodec, bits_per_second: int, index: int) -> JsonObject:
    stream = {
        "Index": str(index),
        "CodecName": codec.name,
        "CodecLongName": codec.long_name,
        "CodecTag": codec.tag,
        "CodecTagString": codec.tag_string,
        "CodecTimeBase": rng.pick(("1/50", "1001/60000", "968897/114984000")),
        "Timebase": rng.pick(("1/15360", "1/1000", "1/90000")),
        "Profile": "Main 10" if file.hdr_type and codec.name == "hevc" else rng.pick(codec.profiles),
        "Level": rng.pick(codec.levels),
        "PixFmt": "yuv420p10le" if file.hdr_type else rng.pick(codec.pixel_formats),
        "Width": str(file.width),
        "Height": str(file.height),
        "Rotate": rng.pick(("0", "0", "0", "90", "180", "270")),
        "Sar": rng.pick(_SAMPLE_ASPECT_RATIOS),
        "Dar": rng.pick(("16:9", "16:9", "9:16", "0:1")),
        "HasBFrames": rng.pick(("0", "1", "2")),
        "Fps": file.frame_rate,
        "AvgFPS": file.frame_rate,
        "NumFrames": str(file.frame_count()),
        "StartTime": rng.pick(_START_TIMES),
        "Duration": file.duration,
        "Bitrate": format_kbps(bits_per_second),
        "Lang": rng.pick(_LANGUAGES),
    }
    if file.hdr_type:
        stream["HDRType"] = file.hdr_type
    return stream


def _audio_stream(rng: SeededRandom, file: SourceFile, index: int) -> JsonObject:
    codec = rng.pick(_AUDIO_CODECS)
    channels, layout = rng.pick(_CHANNEL_LAYOUTS)
    sample_rate = rng.pick(("44100", "48000", "48000", "8000", "96000"))
    return {
        "Index": str(index),
        "CodecName": codec.name,
        "CodecLongName": codec.long_name,
        "CodecTag": codec.tag,
        "CodecTagString": codec.tag_string,
        "CodecTimeBase": f"1/{sample_rate}",
        "Timebase": f"1/{sample_rate}",
        "StartTime": rng.pick(_START_TIMES),
        "Duration": file.duration,
        "Bitrate": format_kbps(rng.between(24_000, 640_000)),
        "SampleRate": sample_rate,
        "SampleFmt": codec.sample_format,
        "Channels": channels,
        "ChannelLayout": layout,
        "NumFrames": str(int(sample_rate) * file.microseconds // 1_024_000_000),
        "Lang": rng.pick(_LANGUAGES),
    }
