"""Audio columns of a recording, estimated from its sound by Essentia, and its title and artist.

Five of Spotify's 13 audio columns have an estimate that does not need Spotify's models: duration, loudness, tempo, key
and mode. The others (danceability, valence, ...) are outputs of classifiers that were never published.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from popularity.errors import InputError

#: Essentia tracks beats at this rate alone.
_RATE = 44_100
_SHORTEST = 5.0  # seconds: a tempo and a key need several bars
_SILENCE = -70.0  # LUFS: the absolute gate of BS.1770
#: One channel is played by two loudspeakers, as Spotify plays it, which doubles its power.
_MONO = 3.01
_KEYS = {"C": 0, "C#": 1, "D": 2, "Eb": 3, "E": 4, "F": 5, "F#": 6, "G": 7, "Ab": 8, "A": 9, "Bb": 10, "B": 11}
_FILE_NAME = re.compile(r"(?:\d{1,3}\s*[.-]\s+)?(?:(?P<artist>.+?)\s+-\s+)?(?P<title>.+)")
_DATE = re.compile(r"\d{4}(?:-\d\d){0,2}")


def check_essentia() -> None:
    """Refuse to begin without Essentia.

    Raises:
        InputError: it is not installed.
    """
    try:
        _essentia()
    except ModuleNotFoundError as error:
        raise InputError("features: the package essentia is missing, install this project's extra [audio]") from error


def read_recording(path: str | Path) -> dict[str, Any]:
    """Estimate the audio columns of a recording; it is decoded as a stream, so that its length does not matter.

    - ``duration_ms``: of the decoded sound.
    - ``loudness``: integrated loudness in LUFS (ITU-R BS.1770, with the gates of EBU R 128); a recording of one channel
      counts as played on two.
    - ``tempo``: from beats tracked by the method of Degara et al. 2012 ("Reliability-Informed Beat Tracking of Musical
      Signals", IEEE TASLP 20), 40 to 208 beats per minute. Half or twice the tempo is its usual error.
    - ``key``, ``mode``: the best fit of the mean harmonic pitch class profile to the profiles of Krumhansl 1990
      ("Cognitive Foundations of Musical Pitch").

    Args:
        path: any format that FFmpeg decodes, mono or stereo.

    Returns:
        Canonical column -> value: title, artist, album and release date from the file's tags, title and artist else
        from a file name such as ``Artist - Title.mp3``, and the columns above. None where nothing can be told: tempo,
        key and mode of a recording under 5 seconds, and all but the duration of silence.

    Raises:
        InputError: the file cannot be decoded.
    """
    try:
        rate, channels, seconds = _decoded(str(path))
        sound = _analysed(str(path), rate)
    except RuntimeError as error:
        reason = str(error).rpartition("error = ")[2].strip()
        raise InputError(f"{path}: expected a recording, got a file that cannot be decoded ({reason})") from error
    audible = sound["loudness"] > _SILENCE
    musical = audible and seconds >= _SHORTEST and sound["tempo"] > 0
    return {
        **_names(Path(path)),
        "duration_ms": round(seconds * 1000),
        "loudness": round(sound["loudness"] + (_MONO if channels == 1 else 0.0), 3) if audible else None,
        "tempo": round(sound["tempo"], 3) if musical else None,
        "key": _KEYS[sound["key"]] if musical else None,
        "mode": int(sound["scale"] == "major") if musical else None,
    }


def _essentia() -> tuple[Any, Any, Any]:
    """Essentia and its two modules, without its own lines on standard error."""
    import essentia  # an extra, and slow to import

    essentia.log.infoActive = essentia.log.warningActive = False  # the next line would write to it
    from essentia import standard, streaming

    return essentia, standard, streaming


def _decoded(path: str) -> tuple[float, int, float]:
    """Samples per second, channels and seconds of a recording."""
    essentia, _, streaming = _essentia()
    pool, loader, length = essentia.Pool(), streaming.AudioLoader(filename=path), streaming.Duration(sampleRate=1)
    mono = _mono(streaming, loader)
    for output in ("md5", "bit_rate", "codec"):
        getattr(loader, output) >> None
    loader.sampleRate >> (pool, "rate")
    loader.numberChannels >> (pool, "channels")
    mono.audio >> length.signal
    length.duration >> (pool, "samples")
    essentia.run(loader)
    return float(pool["rate"]), int(pool["channels"]), float(pool["samples"] / pool["rate"])


def _analysed(path: str, rate: float) -> dict[str, Any]:
    """Loudness, tempo, key and scale of a recording."""
    essentia, _, streaming = _essentia()
    pool, loader = essentia.Pool(), streaming.AudioLoader(filename=path)
    mono, loudness = _mono(streaming, loader), streaming.LoudnessEBUR128(sampleRate=rate)
    resampled = streaming.Resample(inputSampleRate=rate, outputSampleRate=_RATE)
    key, rhythm = streaming.KeyExtractor(profileType="krumhansl"), streaming.RhythmExtractor2013(method="degara")
    loader.audio >> loudness.signal
    mono.audio >> resampled.signal
    resampled.signal >> key.audio
    resampled.signal >> rhythm.signal
    kept = {"loudness": loudness.integratedLoudness, "tempo": rhythm.bpm, "key": key.key, "scale": key.scale}
    for name, output in kept.items():
        output >> (pool, name)
    unused = (
        *(getattr(loader, name) for name in ("sampleRate", "md5", "bit_rate", "codec")),
        *(getattr(loudness, name) for name in ("momentaryLoudness", "shortTermLoudness", "loudnessRange")),
        *(getattr(rhythm, name) for name in ("ticks", "confidence", "estimates", "bpmIntervals")),
        key.strength,
    )
    for output in unused:  # an output that leads nowhere stops the network
        output >> None
    essentia.run(loader)
    return {name: pool[name] for name in kept}


def _mono(streaming: Any, loader: Any) -> Any:
    mixer = streaming.MonoMixer()
    loader.audio >> mixer.audio
    loader.numberChannels >> mixer.numberChannels
    return mixer


def _names(path: Path) -> dict[str, str | None]:
    """Title, artist, album and release date from the tags of a file, or from its name."""
    _, standard, _ = _essentia()
    try:
        title, artist, album, _, _, _, date, *_ = standard.MetadataReader(filename=str(path))()
    except RuntimeError:  # a format whose tags it does not read
        title = artist = album = date = ""
    named = _FILE_NAME.fullmatch(path.stem)
    found = {"title": title, "artist": artist, "album": album, "release_date": (_DATE.match(date) or [""])[0]}
    if not title and named:
        found |= {"title": named["title"], "artist": artist or named["artist"]}
    return {name: value.strip() or None if value else None for name, value in found.items()}
