from __future__ import annotations

import pytest

from popularity.features.title_stats import TITLE_STATISTICS

TITLE = len(TITLE_STATISTICS) + 1


@pytest.fixture(scope="module", autouse=True)
def _imports() -> None:
    """What is slow to import: with the first of these tests, not while tests are collected."""
    global torch, CATEGORIES, CODES, NUMERIC, HistogramHead, MSEHead, Plan, member_plans
    global FeatureTokensNet, MambaRegressor, SingleTokenMamba, decay_groups
    import torch

    from popularity.features.song import CATEGORIES, CODES, NUMERIC
    from popularity.models.feature_tokens import FeatureTokensNet, MambaRegressor, SingleTokenMamba
    from popularity.models.heads import HistogramHead, MSEHead
    from popularity.models.history import Plan
    from popularity.models.members import member_plans
    from popularity.training.optim import decay_groups


def batch(size: int = 16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    numeric = torch.randn(size, len(NUMERIC), generator=generator)
    numeric[torch.rand(numeric.shape, generator=generator) < 0.1] = torch.nan
    category = torch.stack([torch.randint(0, codes, (size,), generator=generator) for codes in CODES], dim=1)
    return {"numeric": numeric, "category": category, "title": torch.randn(size, TITLE, generator=generator)}


def network(head: HistogramHead | MSEHead | None = None, **options) -> MambaRegressor:
    torch.manual_seed(0)
    net = MambaRegressor(
        numeric=len(NUMERIC), bins=8, codes=CODES, title=TITLE, head=head or HistogramHead(), **options
    )
    net.tokens.edges.copy_(torch.linspace(-2, 2, 9))
    return net


@pytest.mark.parametrize("kind", ["histogram", "mse"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_every_parameter_gets_a_gradient(kind, bidirectional):
    head = HistogramHead() if kind == "histogram" else MSEHead()
    net = network(head, bidirectional=bidirectional, feature_dropout=0.1, dropout=0.1)
    head.loss(net(batch(64)), torch.linspace(0, 100, 64)).backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_every_feature_reaches_the_prediction():
    net = network().eval()
    songs = {name: value.nan_to_num() for name, value in batch(1).items()}
    before = net.head.predict(net(songs))
    for name, width in (("numeric", len(NUMERIC)), ("category", len(CATEGORIES)), ("title", TITLE)):
        for column in range(width):
            changed = {key: value.clone() for key, value in songs.items()}
            value = changed[name][0, column]
            changed[name][0, column] = (value + 1) % 3 if name == "category" else value + 1.5
            assert not torch.equal(net.head.predict(net(changed)), before), f"{name} {column} is never read"


def test_songs_of_a_batch_do_not_see_each_other():
    net = network().eval()
    songs = batch(8)
    alone = torch.cat([net({name: value[i : i + 1] for name, value in songs.items()}) for i in range(8)])
    torch.testing.assert_close(net(songs), alone, atol=1e-5, rtol=1e-5)


def test_features_that_never_occur_have_no_token():
    net = network().eval()
    songs = batch(4)
    full = net.tokens(*net.tokens.hide(songs)).shape[1]
    net.tokens.present[[0, len(NUMERIC)]] = False
    assert net.tokens(*net.tokens.hide(songs)).shape[1] == full - 2


def test_hidden_features_look_missing():
    net = network(feature_dropout=0.5).train()
    torch.manual_seed(0)
    songs = {"numeric": torch.ones(2000, len(NUMERIC)), **{k: batch(2000)[k] for k in ("category", "title")}}
    numeric, _, title = net.tokens.hide(songs)
    assert numeric.isnan().double().mean().item() == pytest.approx(0.5, abs=0.02)
    hidden = title[:, -1] == 1
    assert hidden.double().mean().item() == pytest.approx(0.5, abs=0.05)
    assert (title[hidden][:, :-1] == 0).all()
    net.eval()
    assert torch.equal(net.tokens.hide(songs)[0], songs["numeric"])


def members(count: int) -> FeatureTokensNet:
    torch.manual_seed(0)
    plans = member_plans(Plan(block="mamba", width=32), count)
    net = FeatureTokensNet(
        plans, head=HistogramHead(), numeric=len(NUMERIC), bins=8, codes=CODES, title=TITLE, feature_dropout=0.2
    )
    present = torch.ones(len(NUMERIC) + len(CODES) + 1, dtype=torch.bool)
    present[2] = False
    net.take_over(torch.linspace(-2, 2, 9).expand(len(NUMERIC), 9), present)
    return net


def test_members_differ_and_learn_alone():
    net, songs = members(2).train(), batch(64)
    assert {member.tokens.weight.shape[-1] for member in net.members} == {32, 40}
    assert sum(name.startswith("members.1.blocks.0.backward") for name, _ in net.named_parameters()) == 0
    raw = net(songs)
    assert raw.shape == (2, 64, 60)
    net.head.loss(raw[0], torch.linspace(0, 100, 64)).backward()
    first, second = ([p.grad for p in member.parameters()] for member in net.members)
    assert any(grad is not None and grad.abs().sum() > 0 for grad in first)
    assert all(grad is None or not grad.abs().sum() > 0 for grad in second)


def test_a_model_predicts_the_mean_of_its_members():
    net, songs = members(3).eval(), batch(16)
    alone = torch.stack([net.head.probabilities(member(songs)) for member in net.members])
    torch.testing.assert_close(net.head.probabilities(net(songs)), alone.mean(0))
    for member in net.members:
        assert not member.tokens.present[2]
        torch.testing.assert_close(member.tokens.edges[0], torch.linspace(-2, 2, 9))


def test_single_token_network_is_the_original():
    """One token: Mamba(13) -> ReLU -> Linear(13, 1) -> 100 sigmoid."""
    net = SingleTokenMamba(MSEHead())
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters()}
    assert shapes["mamba.in_proj.weight"] == (52, 13)
    assert shapes["mamba.conv1d.weight"] == (26, 1, 4)
    assert shapes["mamba.x_proj.weight"] == (1 + 32, 26)
    assert shapes["mamba.A_log"] == (26, 16)
    assert shapes["readout.weight"] == (1, 13)
    x = torch.randn(5, 13)
    hidden = torch.relu(net.mamba(x[:, None])[:, 0])
    torch.testing.assert_close(net.head.predict(net({"columns": x})), 100 * torch.sigmoid(net.readout(hidden))[:, 0])


def test_decay_on_matrices_alone():
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
    assert "blocks.0.forward_mamba.in_proj.weight" not in free
