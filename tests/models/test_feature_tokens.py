"""The networks that read the song alone: a token per feature, and the single token of the original project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from popularity.features.title_stats import TITLE_STATISTICS
from tests.conftest import Lazy

if TYPE_CHECKING:
    from torch import Tensor

    from popularity.models.feature_tokens import FeatureTokensMamba

torch = Lazy("torch")
encoders = Lazy("popularity.features.song")
heads = Lazy("popularity.models.heads")
networks = Lazy("popularity.models.feature_tokens")

TITLE = len(TITLE_STATISTICS) + 1


def batch_of(size: int = 16) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    numeric = torch.randn(size, len(encoders.NUMERIC_FEATURES), generator=generator)
    numeric[torch.rand(numeric.shape, generator=generator) < 0.1] = torch.nan
    title = torch.randn(size, TITLE, generator=generator)
    codes = [torch.randint(0, codes, (size,), generator=generator) for codes in encoders.CODES]
    batch = {"numeric": numeric, "category": torch.stack(codes, dim=1), "title": title}
    present = torch.ones(numeric.shape[1] + len(codes) + 1, dtype=torch.bool)
    return with_bins(batch) | {"present": present.expand(size, -1)}


def with_bins(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch with the piecewise-linear encoding of its numeric features."""
    edges = torch.linspace(-2, 2, 9).expand(batch["numeric"].shape[1], 9)
    return batch | {"bins": encoders.piecewise_linear(batch["numeric"], edges)}


def network(outputs: int = 60, **settings: Any) -> FeatureTokensMamba:
    torch.manual_seed(0)
    small = {"members": 1, "width": 32, "dropout": 0.0, "feature_dropout": 0.0}
    return networks.FeatureTokensMamba(encoders.FeatureEncoder().inputs, outputs, **{**small, **settings})


@pytest.mark.parametrize("kind", ["HistogramHead", "MSEHead"])
@pytest.mark.parametrize(
    "settings", [{"bidirectional": True}, {"bidirectional": False}, {"members": 4, "width": 16}], ids=str
)
def test_every_parameter_gets_a_gradient(kind, settings):
    head = getattr(heads, kind)()
    net = network(head.outputs, feature_dropout=0.1, dropout=0.1, **settings)
    head.loss(net(batch_of(64)), torch.linspace(0, 100, 64)).backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_every_feature_reaches_the_prediction():
    net = network().eval()
    songs = batch_of(1)
    songs["numeric"] = songs["numeric"].nan_to_num()
    songs = with_bins(songs)
    before = net(songs)
    for name in ("numeric", "category", "title"):
        for column in range(songs[name].shape[1]):
            changed = {key: value.clone() for key, value in songs.items()}
            value = changed[name][0, column]
            changed[name][0, column] = (value + 1) % 3 if name == "category" else value + 1.5
            assert not torch.equal(net(with_bins(changed)), before), f"{name} {column} is never read"


@pytest.mark.parametrize("name", ["numeric", "bins"])
def test_a_token_reads_the_value_and_its_bins(name):
    net, songs = network().eval(), batch_of(4)
    torch.nn.init.zeros_(net.members[0].skip.weight)
    songs["numeric"] = songs["numeric"].nan_to_num()
    songs = with_bins(songs)
    assert not torch.allclose(net(songs), net({**songs, name: songs[name] + 0.5}), atol=1e-3)


def test_the_linear_skip_starts_at_nothing_and_reads_the_inputs():
    net, songs = network().eval(), batch_of(4)
    skip = net.members[0].skip
    assert not skip.weight.any()
    with torch.no_grad():
        before = net(songs)
        skip.weight.fill_(1.0)
        moved = (net(songs) - before)[0].mean(-1)
    torch.testing.assert_close(
        moved, songs["numeric"].nan_to_num().sum(1) + songs["title"].sum(1), atol=1e-4, rtol=1e-4
    )


def test_songs_of_a_batch_do_not_see_each_other():
    net, songs = network().eval(), batch_of(8)
    alone = torch.cat([net({name: value[i : i + 1] for name, value in songs.items()}) for i in range(8)], dim=1)
    torch.testing.assert_close(net(songs), alone, atol=1e-5, rtol=1e-5)


def test_features_that_never_differ_have_no_token():
    tokens, songs = network().members[0].tokens, batch_of(4)
    full = tokens(songs)
    present = songs["present"].clone()
    present[:, [0, len(encoders.NUMERIC_FEATURES)]] = False
    fewer = tokens({**songs, "present": present})
    kept = torch.tensor([*present[0].tolist(), True])  # the read-out token always stays
    assert torch.equal(fewer, full[:, kept])


def test_a_missing_value_has_a_vector_of_its_own():
    tokens, songs = network().members[0].tokens, batch_of(4)
    songs["numeric"][:, 3] = torch.nan
    embedded = tokens(with_bins(songs))
    assert torch.equal(embedded[:, 3], tokens.missing[3].expand_as(embedded[:, 3]))


def test_hidden_features_look_missing():
    tokens = network(feature_dropout=0.5).members[0].tokens.train()
    torch.manual_seed(0)
    songs = batch_of(2000)
    songs["numeric"] = torch.ones_like(songs["numeric"])
    songs["category"] = torch.ones_like(songs["category"])
    hidden = tokens.hide(songs)
    assert hidden["numeric"].isnan().double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert (hidden["category"] == 0).double().mean().item() == pytest.approx(0.5, abs=0.02)
    no_title = hidden["title"][:, -1] == 1
    assert no_title.double().mean().item() == pytest.approx(0.5, abs=0.05)
    assert (hidden["title"][no_title][:, :-1] == 0).all()
    tokens.eval()
    assert torch.equal(tokens.hide(songs)["numeric"], songs["numeric"])


def test_dropout_acts_in_training_alone():
    net, songs = network(dropout=0.5), batch_of(4)
    assert not torch.equal(net.train()(songs), net(songs))
    assert torch.equal(net.eval()(songs), net(songs))


def test_members_differ_and_learn_alone():
    net = network(members=2, width=(32, 40), feature_dropout=0.2).train()
    songs = batch_of(64)
    assert {member.tokens.weight.shape[-1] for member in net.members} == {32, 40}
    assert sum(name.startswith("members.1.blocks.0.backward") for name, _ in net.named_parameters()) == 0
    raw = net(songs)
    assert raw.shape == (2, 64, 60)
    heads.HistogramHead().loss(raw[0], torch.linspace(0, 100, 64)).backward()
    first, second = ([p.grad for p in member.parameters()] for member in net.members)
    assert any(grad is not None and grad.abs().sum() > 0 for grad in first)
    assert all(grad is None or not grad.abs().sum() > 0 for grad in second)


def test_a_model_predicts_the_mean_of_its_members():
    net, songs, head = network(members=3).eval(), batch_of(16), heads.HistogramHead()
    alone = torch.stack([head.probabilities(member(songs)) for member in net.members])
    torch.testing.assert_close(head.probabilities(head.mix(net(songs))), alone.mean(0))


def test_an_encoder_of_another_kind_is_refused():
    from popularity.errors import InputError
    from popularity.features.base import Inputs
    from popularity.models.single_token import SingleTokenMamba

    with pytest.raises(InputError, match=r"FeatureTokensMamba: expected data.encoder FeatureEncoder"):
        networks.FeatureTokensMamba(Inputs(song=5), 60)
    with pytest.raises(InputError, match=r"SingleTokenMamba: expected data.encoder ColumnEncoder"):
        SingleTokenMamba(Inputs(song=5), 60)


def test_single_token_network_is_the_original():
    """One token: Mamba(13) -> ReLU -> Linear(13, 1) -> 100 sigmoid."""
    from popularity.features.base import Inputs
    from popularity.models.single_token import SingleTokenMamba

    net = SingleTokenMamba(Inputs(columns=13), heads.MSEHead().outputs)
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters()}
    assert shapes["mamba.in_proj.weight"] == (52, 13)
    assert shapes["mamba.conv1d.weight"] == (26, 1, 4)
    assert shapes["mamba.x_proj.weight"] == (1 + 32, 26)
    assert shapes["mamba.A_log"] == (26, 16)
    assert shapes["readout.weight"] == (1, 13)
    x = torch.randn(5, 13)
    hidden = torch.relu(net.mamba(x[:, None])[:, 0])
    found = heads.MSEHead().predict(net({"columns": x}))
    torch.testing.assert_close(found, 100 * torch.sigmoid(net.readout(hidden))[:, 0])


def test_decay_on_matrices_alone():
    from popularity.training.optim import decay_groups

    net = network()
    decayed, kept = decay_groups(net)
    names = {id(p): name for name, p in net.named_parameters()}
    assert {id(p) for p in decayed}.isdisjoint(id(p) for p in kept)
    assert len(decayed) + len(kept) == len(names)
    free = {names[id(p)] for p in kept}
    for name in names.values():
        last = name.rsplit(".", 1)[-1]
        if last in ("A_log", "D", "bias") or "norm" in name:
            assert name in free
    assert "members.0.blocks.0.forward_mamba.in_proj.weight" not in free
