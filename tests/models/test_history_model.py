"""The network that reads histories: padding, members and memory leave no trace where they must not."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest

BLOCKS = ["mamba", "none"] + ["mamba2"] * (find_spec("popularity.models.mamba2") is not None)
S, E, CODES, KNOWN = 5, 2, (3, 4), 40


@pytest.fixture(scope="module", autouse=True)
def _imports() -> None:
    """What is slow to import: with the first of these tests, not while tests are collected."""
    global torch, HistogramHead, MSEHead, HistoryNet, Plan, member_plans
    global ALBUM, CREDITED, NOBODY, RETRIEVED, SAME, nn
    import torch
    from torch import nn

    from popularity.features.related import ALBUM, CREDITED, NOBODY, RETRIEVED, SAME
    from popularity.models.heads import HistogramHead, MSEHead
    from popularity.models.history import HistoryNet, Plan
    from popularity.models.members import member_plans


def known_songs(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    month = torch.rand(KNOWN, generator=generator) * 600
    month[::7] = torch.nan
    return {
        "song": torch.randn(KNOWN, S, generator=generator),
        "category": torch.stack([torch.randint(0, c, (KNOWN,), generator=generator) for c in CODES], 1),
        "popularity": torch.rand(KNOWN, generator=generator) * 100,
        "month": month,
    }


def network(*plans: Plan, head: str = "histogram", dropout: float = 0.0, one_token: bool = False) -> HistoryNet:
    torch.manual_seed(0)
    net = HistoryNet(
        plans or (Plan(width=8, d_state=4),),
        head=HistogramHead(bins=12) if head == "histogram" else MSEHead(),
        song=S,
        extras=E,
        codes=CODES,
        dropout=dropout,
        input_dropout=dropout,
        one_token=one_token,
    )
    net.memory.fill(known_songs())
    return net.eval()


def batch_of(lengths: list[int], draws: int = 1, seed: int = 0, width: int | None = None) -> dict[str, torch.Tensor]:
    """Songs with histories of these lengths, padded in front, in all roles."""
    generator = torch.Generator().manual_seed(seed)
    n, width = len(lengths), max(lengths) if width is None else width
    kind = torch.tensor([SAME, CREDITED, RETRIEVED, ALBUM])[torch.randint(0, 4, (n, draws, width), generator=generator)]
    known = torch.randint(0, KNOWN, (n, draws, width), generator=generator)
    padding = torch.arange(width) < width - torch.tensor(lengths)[:, None, None]
    return {
        "song": torch.randn(n, S, generator=generator),
        "category": torch.stack([torch.randint(0, c, (n,), generator=generator) for c in CODES], 1),
        "extras": torch.randn(n, E, generator=generator),
        "month": torch.rand(n, generator=generator) * 600,
        "known": known.masked_fill(padding, 0),
        "kind": kind.masked_fill(padding, NOBODY),
        "mate": (known % 3 == 0) & ~padding,
    }


def row_of(batch: dict[str, torch.Tensor], i: int) -> dict[str, torch.Tensor]:
    """One song alone, without its padding."""
    longest = int((batch["kind"][i] != NOBODY).sum(-1).max())
    alone = {name: value[i : i + 1] for name, value in batch.items()}
    cut = alone["known"].shape[-1] - longest
    return {**alone, **{name: alone[name][..., cut:] for name in ("known", "kind", "mate")}}


def plans_to_try() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for block in BLOCKS:
        found += [{"block": block, "bidirectional": both} for both in (False, True)]
    return [*found, {"layers": 2}, {"difference": True, "text_scores": True}]


@pytest.mark.parametrize("options", plans_to_try(), ids=lambda o: "-".join(f"{k}={v}" for k, v in o.items()))
def test_padding_leaves_no_trace(options):
    """A song alone, and beside songs with longer histories."""
    net = network(Plan(**{"width": 8, "d_state": 4, "layers": 1, **options}))
    batch = batch_of([0, 3, 9, 1, 30], width=33)
    with torch.no_grad():
        together = net(batch)
        for i in range(5):
            torch.testing.assert_close(net(row_of(batch, i))[0], together[i], atol=2e-5, rtol=1e-4)
        # whatever stands in the padding
        padding = batch["kind"] == NOBODY
        torch.testing.assert_close(net({**batch, "known": batch["known"].masked_fill(padding, 17)}), together)


@pytest.mark.parametrize("options", plans_to_try(), ids=lambda o: "-".join(f"{k}={v}" for k, v in o.items()))
def test_every_parameter_gets_a_gradient(options):
    plan = Plan(**{"width": 8, "d_state": 4, **options})
    net = network(plan, replace(plan, width=12)).train()
    net.head.loss(net(batch_of([0, 3, 6, 5], draws=2)), torch.tensor([10.0, 20.0, 60.0, 90.0])).backward()
    # a backward pass through a bare residual has nothing to learn but its norm
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


@pytest.mark.parametrize("what", ["song", "label", "category", "month", "kind", "mate", "order"])
def test_everything_of_a_history_is_read(what):
    net, batch = network(Plan(width=8, d_state=4, layers=1)), batch_of([6, 6, 6])
    for name, p in net.named_parameters():
        if "album" in name:
            nn.init.normal_(p)  # they begin at 0
    batch["kind"] = batch["kind"].fill_(SAME)
    with torch.no_grad():
        before = net(batch)
        if what == "kind":
            batch["kind"][:, :, 2] = CREDITED
        elif what == "mate":
            batch["mate"] = ~batch["mate"]
        elif what == "order":
            batch["known"] = batch["known"].flip(-1)
        else:
            memory = getattr(net.memory, what)
            memory.copy_((memory + 1) % 3 if what == "category" else torch.nan_to_num(memory) * 0.5 + 1)
        assert (net(batch) - before).abs().amax(1).min() > 1e-4


def test_only_the_songs_drawn_are_read():
    net, batch = network(), batch_of([4, 7])
    unread = torch.ones(KNOWN, dtype=torch.bool)
    unread[batch["known"][batch["kind"] != NOBODY]] = False
    with torch.no_grad():
        before = net(batch)
        net.memory.label[unread] += 50
        net.memory.song[unread] *= -3
        assert torch.equal(net(batch), before)


def test_in_training_each_member_learns_alone():
    """The loss of the model is the mean of the members' own, and none's gradient knows of another."""
    plans = [Plan(width=8, d_state=4), Plan(width=12, d_state=4, block="none")]
    net, batch = network(*plans).train(), batch_of([2, 5, 4], draws=2)
    target = torch.tensor([5.0, 40.0, 80.0])
    raw = net(batch)
    assert raw.shape == (2, 3, 12)
    loss = net.head.loss(raw, target)
    torch.testing.assert_close(loss, torch.stack([net.head.loss(part, target) for part in raw]).mean())
    loss.backward()
    for i, member in enumerate(net.members):
        together = [p.grad.clone() for p in member.parameters()]
        net.zero_grad()
        net.head.loss(net(batch)[i], target).backward()
        for parameter, gradient in zip(member.parameters(), together, strict=True):
            torch.testing.assert_close(parameter.grad / 2, gradient, atol=1e-6, rtol=1e-4)
        assert all(p.grad is None or not p.grad.any() for p in net.members[1 - i].parameters())
        net.zero_grad()
        net.head.loss(net(batch), target).backward()


@pytest.mark.parametrize("head", ["histogram", "mse"])
def test_in_evaluation_the_model_is_the_mean_of_its_members(head):
    """Each member reads its own share of the drawn histories; what is averaged are probabilities, or points."""
    net, batch = network(Plan(width=8, d_state=4), Plan(width=12, d_state=4), head=head), batch_of([2, 5, 4], draws=6)
    with torch.no_grad():
        raw = net(batch)
        apart = []
        for i, member in enumerate(net.members):
            for at in range(3 * i, 3 * i + 3):
                apart.append(member(batch, net.memory, batch["known"][:, at], batch["kind"][:, at]))
        points = torch.stack([net.head.predict(one) for one in apart])
        assert points.std(0).min() > 0.1
        torch.testing.assert_close(net.head.predict(raw), points.mean(0))
        if head == "histogram":
            shares = torch.stack([net.head.probabilities(one) for one in apart]).mean(0)
            torch.testing.assert_close(net.head.probabilities(raw), shares)


@pytest.mark.parametrize("head", ["histogram", "mse"])
def test_a_single_history_is_mixed_to_itself(head):
    net, batch = network(head=head), batch_of([2, 5, 4])
    with torch.no_grad():
        alone = net.head.predict(net.members[0](batch, net.memory, batch["known"][:, 0], batch["kind"][:, 0]))
        torch.testing.assert_close(net.head.predict(net(batch)), alone)
        thrice = {name: value.repeat(1, 3, 1) if value.ndim == 3 else value for name, value in batch.items()}
        torch.testing.assert_close(net.head.predict(net(thrice)), alone)


def test_one_token_has_nothing_to_scan():
    """All tokens added up: the order of a history is gone, its songs are not."""
    net, batch = network(one_token=True), batch_of([6, 3, 6])
    flipped = {**batch, "known": batch["known"].flip(-1), "kind": batch["kind"].flip(-1)}
    with torch.no_grad():
        before = net(batch)
        torch.testing.assert_close(net(flipped), before, atol=1e-5, rtol=1e-4)
        net.memory.label.neg_()
        assert not torch.allclose(net(batch), before, atol=1e-3)


def test_without_extras_no_scores_are_read():
    batch = batch_of([6, 3, 0])
    for extras in (True, False):
        net = network(Plan(width=8, d_state=4, text_scores=extras))
        with torch.no_grad():
            same = torch.equal(net(batch), net({**batch, "extras": batch["extras"] + 1}))
        assert same is not extras


def test_a_network_without_known_songs():
    net, batch = network(), batch_of([0, 0])
    with torch.no_grad():
        assert torch.isfinite(net(batch)).all()


@pytest.mark.parametrize("options", plans_to_try(), ids=lambda o: "-".join(f"{k}={v}" for k, v in o.items()))
def test_half_precision_is_finite_and_near(options):
    plan = Plan(**{"width": 8, "d_state": 4, **options})
    net, batch = network(plan), batch_of([0, 3, 14])
    with torch.no_grad():
        expected = net.head.predict(net(batch))
        half = {name: value.bfloat16() if value.is_floating_point() else value for name, value in batch.items()}
        net.bfloat16()
        net.memory.fill(known_songs())
        assert net.memory.song.dtype == torch.bfloat16, "the memory keeps the precision of its module"
        found = net.head.predict(net(half))
    torch.testing.assert_close(found, expected, atol=3.0, rtol=0)


def test_labels_of_the_memory_are_standardised():
    net = network()
    assert net.memory.label.mean().abs() < 1e-5
    assert net.memory.label.std(correction=0) == pytest.approx(1.0)
    assert not any("memory" in name for name in net.state_dict()), "the encoder's state keeps them"
    for popularity in (torch.full((KNOWN,), 40.0), torch.tensor([40.0])):
        net.memory.fill({**{k: v[: len(popularity)] for k, v in known_songs().items()}, "popularity": popularity})
        assert net.memory.label.tolist() == [0.0] * len(popularity)


def test_filling_copies():
    """A memory that shared its tensors with the encoder would follow whatever is done to the module."""
    known = known_songs()
    net = network()
    net.memory.fill(known)
    net.memory.song.zero_()
    assert known["song"].any()


def test_the_first_member_is_as_asked_for():
    first = Plan(width=16, block="none")
    plans = member_plans(first, 5)
    assert len(plans) == 5
    assert plans[0] == first
    assert member_plans(first, 2) == plans[:2], "a further member changes none before it"
