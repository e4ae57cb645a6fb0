"""A checkpoint is data: it runs no code, names no foreign class, and one changed bit of it is found."""

from __future__ import annotations

import copy
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from popularity.__main__ import main
from popularity.errors import InputError
from tests.conftest import Lazy, make_songs
from tests.test_fit import PLAIN, SMALL

torch = Lazy("torch")
checkpoint = Lazy("popularity.inference.checkpoint")
checkpoints = Lazy("popularity.training.checkpoints")
table = Lazy("popularity.inference.table")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small run."""
    folder = tmp_path_factory.mktemp("run")
    make_songs(60).to_csv(folder / "songs.csv", index=False)
    arguments = ["--data.source", str(folder / "songs.csv"), "--log_dir", str(folder), "--trainer.max_epochs", "1"]
    arguments += ["--data.encoder.text_scores", "true", "--data.encoder.retrieved", "2"]  # all that an encoder learns
    assert main(["fit", *arguments, *SMALL, *PLAIN]) == 0
    return folder / "mamba" / "version_0" / "checkpoints" / "last.ckpt"


def test_changed_bits_are_found(good: Path, tmp_path: Path) -> None:
    """1, 8 or 64 bits, anywhere in the file: it is refused, or what is read is what was written."""
    content, chance, bad = good.read_bytes(), random.Random(0), tmp_path / "bad.ckpt"
    weights, refused = checkpoint.read_checkpoint(good)["state_dict"], 0
    for count in (1, 8, 64) * 4:
        changed = bytearray(content)
        for _ in range(count):
            place = chance.randrange(8 * len(content))
            changed[place // 8] ^= 1 << place % 8
        bad.write_bytes(changed)
        try:
            found = checkpoint.read_checkpoint(bad)["state_dict"]
        except checkpoint.DamagedError:
            refused += 1
        else:
            assert all(torch.equal(found[name], value) for name, value in weights.items())
    assert refused >= 8, "a bit of the padding between the parts says nothing, all others do"


def test_a_packed_checkpoint_is_refused(good: Path, tmp_path: Path) -> None:
    """PyTorch writes parts as they are; a packed one may unpack to anything."""
    bomb = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(InputError, match="another kind of file or a damaged one"):
        checkpoint.read_checkpoint(bomb)


def settings(net: Any = None, encoder: Any = None, **model: Any) -> dict[str, Any]:
    ours = {"class_path": "popularity.models.history.HistoryMamba", "init_args": {"width": 8, "block": "mamba2"}}
    encoder = encoder or {"class_path": "popularity.features.encoder.HistoryEncoder"}
    model = {"net": net or ours, "head": "HistogramHead", "learning_rate": 0.1, **model}
    return {"hyper_parameters": model, "datamodule_hyper_parameters": {"encoder": encoder, "source": "my.songs.csv"}}


def test_classes_of_this_package_are_allowed() -> None:
    checkpoint.check_classes("a.ckpt", settings())


@pytest.mark.parametrize(
    "hostile",
    [
        settings(net={"class_path": "os.system"}),
        settings(net="os.system"),
        settings(net={"class_path": "system"}),
        settings(net={"class_path": "popularity.io.os.system"}),
        settings(net={"class_path": "popularity.__main__.run"}),
        settings(net={"class_path": "popularity.training.loggers.MetricsCSV"}),
        settings(net={"class_path": "tests.training.own_parts.MyNet"}),
        settings(net="/tmp/net.yaml"),
        settings(net={"class_path": "popularity.models.history.HistoryMamba", "init_args": {"block": "os.system"}}),
        settings(net={"class_path": "popularity.models.history.HistoryMamba", "init_args": {"deep": [{"x": "a.b"}]}}),
        settings(head={"class_path": "subprocess.Popen"}),
        settings(encoder={"class_path": "tests.training.own_parts.MyEncoder"}),
    ],
    ids=str,
)
def test_other_classes_are_refused_unless_the_user_names_them(hostile: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"a.ckpt: names .+, which is not part of this package; .+ add --(model|data)\."
    ):
        checkpoint.check_classes("a.ckpt", hostile)


def test_a_class_that_the_user_names_is_allowed() -> None:
    own = "tests.training.own_parts.MyNet"
    checkpoint.check_classes("a.ckpt", settings(net={"class_path": own}), [own])


def test_no_verb_imports_what_a_checkpoint_names(good: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Importing this module would leave a file; so would a config beside the checkpoint that is read unasked."""
    (tmp_path / "evil.py").write_text("open('imported', 'w').close()\nclass Net: ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    content = checkpoint.read_checkpoint(good)
    content["hyper_parameters"]["net"] = {"class_path": "evil.Net"}
    torch.save(content, tmp_path / "bad.ckpt")
    make_songs(10).to_csv(tmp_path / "songs.csv", index=False)
    given = ["--ckpt_path", "bad.ckpt", *PLAIN]
    for arguments in (["test"], ["validate"], ["predict", "--data.predict_source", "songs.csv"]):
        assert main([*arguments, *given]) == 2
        assert "names evil.Net, which is not part of this package" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"names evil.Net"):
        checkpoint.load_checkpoint("bad.ckpt")
    for name in ("config.yaml", "hparams.yaml", "bad.yaml"):
        (tmp_path / name).write_text("model: {net: {class_path: evil.Net}}\n")
    (tmp_path / "good.ckpt").write_bytes(good.read_bytes())
    checkpoint.load_checkpoint("good.ckpt")
    assert not (tmp_path / "imported").exists()
    __import__("evil")
    assert (tmp_path / "imported").exists(), "the test would see it"


def change(good: Path, bad: Path, **data: Any) -> None:
    content = checkpoint.read_checkpoint(good)
    content["PopularityDataModule"] |= data
    torch.save(content, bad)


@pytest.mark.parametrize("encoder", [{}, {"features": 1}, {"features": {}, "text": [], "keys": None}])
def test_an_encoder_of_another_kind_is_one_line(encoder: dict[str, Any], good: Path, tmp_path: Path) -> None:
    change(good, tmp_path / "bad.ckpt", encoder=encoder)
    with pytest.raises(InputError, match=r"bad.ckpt: its encoder does not go with this version") as refused:
        checkpoint.load_checkpoint(tmp_path / "bad.ckpt")
    assert "\n" not in str(refused.value)


def test_without_a_fingerprint_it_is_refused(good: Path, tmp_path: Path) -> None:
    change(good, tmp_path / "bad.ckpt", fingerprint=None)
    with pytest.raises(InputError, match="expected a checkpoint with the fingerprint of its data"):
        checkpoint.read_checkpoint(tmp_path / "bad.ckpt")


def test_weights_that_are_no_numbers_are_refused(good: Path, tmp_path: Path) -> None:
    """They would give empty predictions."""
    content = checkpoint.read_checkpoint(good)
    name = next(name for name, value in content["state_dict"].items() if value.is_floating_point())
    content["state_dict"][name].view(-1)[0] = float("nan")
    torch.save(content, tmp_path / "bad.ckpt")
    with pytest.raises(InputError, match=f"expected finite weights, got NaN or infinity in {name}"):
        checkpoint.load_checkpoint(tmp_path / "bad.ckpt")


def numbers(state: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """All tensors and numbers within nested parts, each with its place."""
    inside = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    for name, value in inside:
        if isinstance(value, float) or (hasattr(value, "numel") and value.numel()):
            yield (*place, name), value
        else:
            yield from numbers(value, (*place, name))


#: What takes the place of numbers and of whole numbers, by the bounds of their type
ABSURD: dict[str, tuple[Callable[[Any], float], Callable[[Any], int]]] = {
    "NaN": (lambda bounds: float("nan"), lambda bounds: bounds.max),
    "infinity": (lambda bounds: float("inf"), lambda bounds: bounds.min),
    "large": (lambda bounds: bounds.max / 2, lambda bounds: -1),
    "zero": (lambda bounds: 0.0, lambda bounds: 0),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, on a division by zero
@pytest.mark.parametrize("kind", ABSURD)
def test_whatever_an_encoder_holds_predictions_are_numbers(kind: str, good: Path) -> None:
    """Or there is one line that names the file and the part: no traceback, no empty cell."""
    content, songs = checkpoint.read_checkpoint(good), new_songs()
    module, data = checkpoint.load_checkpoint(good)
    refused, places = {}, [place for place, _ in numbers(content["PopularityDataModule"]["encoder"])]
    for *outer, name in places:
        state = copy.deepcopy(content["PopularityDataModule"])
        inner = state["encoder"]
        for part in outer:
            inner = inner[part]
        inner[name] = replaced(inner[name], *ABSURD[kind])
        try:
            checkpoint.load_data("bad.ckpt", {"PopularityDataModule": state}, data)
            found = table.prediction_table(module, data, songs, table.Wanted())
        except InputError as error:
            refused[".".join(map(str, (*outer, name)))] = str(error)
        else:
            assert found.select_dtypes("number").notna().all().all(), (*outer, name)
    assert len(places) > 30
    if kind == "NaN":
        missing = {"known.month", "known.numeric"}  # NaN says so there
        read = {
            ".".join(map(str, place))
            for place, value in numbers(content["PopularityDataModule"]["encoder"])
            if isinstance(value, float) or value.is_floating_point()
        }
        assert read - missing <= refused.keys()
        assert not missing & refused.keys()
    if kind in ("NaN", "infinity"):
        assert all(line.startswith("bad.ckpt: its encoder") for line in refused.values())
        assert "known.category" in refused


def replaced(value: Any, number: Callable[[Any], float], whole: Callable[[Any], int]) -> Any:
    if isinstance(value, float):
        return number(torch.finfo(torch.float64))
    if value.is_floating_point():
        return torch.full_like(value, number(torch.finfo(value.dtype)))
    return torch.full_like(value, value.dtype != torch.bool and whole(torch.iinfo(value.dtype)))


def new_songs() -> Any:
    from popularity.data.raw import RawTable
    from popularity.data.songs import songs_of

    return songs_of(RawTable(Path("songs"), make_songs(12, seed=1), "made up")).songs


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        (("features", "edges"), float("nan"), "expected finite numbers, got NaN or infinity in edges"),
        (("texts", 0, "projection"), float("nan"), "expected finite numbers, got NaN or infinity in projection"),
        (("known", "category"), 999, "expected codes from 0 to 12, got others in known category"),
    ],
)
def test_a_damaged_encoder_is_one_line(place, value, line, good: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    content = checkpoint.read_checkpoint(good)
    inner = content["PopularityDataModule"]["encoder"]
    for name in place:
        inner = inner[name]
    inner.fill_(value)
    torch.save(content, tmp_path / "bad.ckpt")
    make_songs(10).to_csv(tmp_path / "songs.csv", index=False)
    monkeypatch.chdir(tmp_path)
    source = content["datamodule_hyper_parameters"]["source"]
    for verb in (["predict", "--data.predict_source", "songs.csv"], ["fit", "--data.source", source, *SMALL]):
        capsys.readouterr()
        more = ["--data.encoder.text_scores", "true", "--data.encoder.retrieved", "2"] if verb[0] == "fit" else []
        assert main([*verb, *more, "--ckpt_path", "bad.ckpt", *PLAIN]) == 2
        assert capsys.readouterr().err == f"error: bad.ckpt: its encoder: {line}\n"
    assert {path.name for path in tmp_path.iterdir()} == {"bad.ckpt", "songs.csv"}


def test_a_prediction_that_is_no_number_is_refused(good: Path) -> None:
    module, data = checkpoint.load_checkpoint(good)
    songs = new_songs()
    assert len(table.prediction_table(module, data, songs, table.Wanted())) == len(songs)
    data.encoder.label.fill_(float("nan"))
    with pytest.raises(InputError, match=r"expected predictions that are numbers, got NaN or infinity for \d+ of 12"):
        table.prediction_table(module, data, songs, table.Wanted())


def test_no_pickle_is_read_with_code(good: Path, tmp_path: Path, monkeypatch) -> None:
    """Lightning would read with code if it is told to, PyTorch if the environment says so and the call does not."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"code": Code()}, tmp_path / "code.ckpt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="got one with code"):
        checkpoint.read_checkpoint(tmp_path / "code.ckpt")
    with pytest.raises(Exception, match=r"Weights only load failed|weights_only"):
        checkpoints.CheckpointFiles().load_checkpoint(tmp_path / "code.ckpt", weights_only=False)
    assert not (tmp_path / "executed").exists()
    with pytest.warns(UserWarning, match="forcing weights_only=False"):
        torch.load(tmp_path / "code.ckpt")
    assert (tmp_path / "executed").exists(), "the test would see it"


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return __import__("os").mkdir, ("executed",)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch) -> None:
    """One line, and nothing half written; `tests/test_io.py` has the same with a real limit."""
    path = tmp_path / "last.ckpt"
    files = checkpoints.CheckpointFiles()
    files.save_checkpoint({"a": torch.ones(10)}, path)
    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(InputError, match=r"last.ckpt: cannot write: No space left on device"):
        files.save_checkpoint({"a": torch.zeros(10)}, path)
    assert torch.load(path, weights_only=True)["a"].sum() == 10
    assert [one.name for one in tmp_path.iterdir()] == ["last.ckpt"]


def no_space(handle: int) -> None:
    import errno

    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_gives_back_something_else_is_noticed(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "last.ckpt"
    checkpoints.CheckpointFiles().save_checkpoint({"a": torch.ones(10)}, path)
    monkeypatch.setattr("popularity.training.checkpoints.is_whole", lambda file: False)
    with pytest.raises(InputError, match="the disk does not give back what was written to it"):
        checkpoints.CheckpointFiles().save_checkpoint({"a": torch.zeros(10)}, path)
    assert torch.load(path, weights_only=True)["a"].sum() == 10


def test_an_interrupt_while_a_checkpoint_is_written_stays_one(tmp_path: Path) -> None:
    """PyTorch's writer ends with an error of its own about the file that was cut off."""

    class Interrupts:
        def __reduce__(self) -> tuple[Any, ...]:
            raise KeyboardInterrupt

    path = tmp_path / "last.ckpt"
    checkpoints.CheckpointFiles().save_checkpoint({"a": torch.ones(10)}, path)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.CheckpointFiles().save_checkpoint({"b": torch.ones(9), "a": Interrupts()}, path)
    assert torch.load(path, weights_only=True)["a"].sum() == 10


def test_an_error_of_the_writer_that_hides_an_interrupt_is_the_interrupt(tmp_path: Path, monkeypatch) -> None:
    def cut_off(*_: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")

    monkeypatch.setattr("torch.save", cut_off)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.CheckpointFiles().save_checkpoint({}, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())
