"""The network that reads histories: everything in a history is read, and padding and other songs leave no trace."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Lazy

if TYPE_CHECKING:
    from torch import Tensor

    from popularity.models.history import HistoryMamba

torch = Lazy("torch")
related = Lazy("popularity.features.related")
histories = Lazy("popularity.models.histories")
history = Lazy("popularity.models.history")
heads = Lazy("popularity.models.heads")

S, E, CODES = 5, 2, (3, 4)
#: Tensors of histories ``(D, B, H, ...)``; all others are ``(B, ...)``.
OF_HISTORY = ("history_song", "history_category", "history_label", "history_month", "role", "same_album")
SETTINGS: list[dict[str, Any]] = [
    *(
        {"block": block, "bidirectional": both}
        for block in ("mamba", "mamba2", "mamba3", "none")
        for both in (False, True)
    ),
    {"layers": 2},
    {"members": 4},
    {"one_token": True},
]


def named(settings: dict[str, Any]) -> str:
    return "-".join(f"{name}={value}" for name, value in settings.items())


def network(outputs: int = 12, extras: int = E, **settings: Any) -> HistoryMamba:
    from popularity.features.base import Inputs

    torch.manual_seed(0)
    small = {"members": 1, "width": 8, "d_state": 4, "dropout": 0.0, "feature_dropout": 0.0, "interaction_dropout": 0.0}
    small["mlp_width"] = 0
    net = history.HistoryMamba(
        Inputs(song=S, numbers=S - 1, plain=2, extras=extras, codes=CODES), outputs, **{**small, **settings}
    )
    for name, parameter in net.named_parameters():
        if "album" in name:
            torch.nn.init.normal_(parameter)  # they start at 0
    return net.eval()


def batch_of(lengths: list[int], samples: int = 1, seed: int = 0, width: int | None = None) -> dict[str, Tensor]:
    """Songs with histories of these lengths, padded in front, in all roles."""
    generator = torch.Generator().manual_seed(seed)
    n = len(lengths)
    shape = (samples, n, max(lengths) if width is None else width)
    padding = (torch.arange(shape[2]) < shape[2] - torch.tensor(lengths)[:, None]).expand(shape)
    roles = torch.tensor([related.SAME, related.CREDITED, related.RETRIEVED, related.ALBUM])
    month = torch.rand(shape, generator=generator) * 600

    def categories(*size: int) -> Tensor:
        return torch.stack([torch.randint(0, codes, size, generator=generator) for codes in CODES], -1)

    return {
        "song": torch.randn(n, S, generator=generator),
        "category": categories(n),
        "extras": torch.randn(n, E, generator=generator),
        "month": torch.rand(n, generator=generator) * 600,
        "history_song": torch.randn(*shape, S, generator=generator),
        "history_category": categories(*shape),
        "history_label": torch.randn(shape, generator=generator),
        "history_month": month.masked_fill(month < 90, torch.nan),
        "role": roles[torch.randint(0, 4, shape, generator=generator)].masked_fill(padding, related.NO_SONG),
        "same_album": (torch.rand(shape, generator=generator) < 0.3) & ~padding,
    }


def row_of(batch: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    """One song alone, without its padding."""
    longest = int((batch["role"][:, i] != related.NO_SONG).sum(-1).max())
    start = batch["role"].shape[2] - longest
    return {
        name: value[:, i : i + 1, start:] if name in OF_HISTORY else value[i : i + 1] for name, value in batch.items()
    }


@pytest.mark.parametrize("settings", SETTINGS, ids=named)
def test_padding_leaves_no_trace(settings):
    """A song alone gives what it gives beside songs with longer histories, whatever stands in the padding."""
    net, batch = network(**settings), batch_of([0, 3, 9, 1, 30], width=33)
    with torch.no_grad():
        together = net(batch)
        for i in range(5):
            torch.testing.assert_close(net(row_of(batch, i))[:, 0], together[:, i], atol=2e-5, rtol=1e-4)
        padding = batch["role"] == related.NO_SONG
        other = {
            **batch,
            "history_song": torch.where(padding.unsqueeze(-1), 9.0, batch["history_song"]),
            "history_category": torch.where(padding.unsqueeze(-1), 1, batch["history_category"]),
            "history_label": torch.where(padding, 9.0, batch["history_label"]),
            "history_month": torch.where(padding, 9.0, batch["history_month"]),
        }
        torch.testing.assert_close(net(other), together)


@pytest.mark.parametrize("settings", SETTINGS[:-1], ids=named)  # over one token nothing decays: no gradient of A
def test_every_parameter_gets_a_gradient(settings):
    net, head = network(outputs=60, **settings).train(), heads.HistogramHead()
    head.loss(net(batch_of([0, 3, 6, 5], samples=4)), torch.tensor([10.0, 20.0, 60.0, 90.0])).backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


@pytest.mark.parametrize("what", ["song", "label", "category", "month", "role", "same_album", "order"])
def test_everything_in_a_history_is_read(what):
    net, batch = network(), batch_of([6, 6, 6])
    batch["role"] = torch.full_like(batch["role"], related.SAME)
    batch["history_month"] = batch["history_month"].nan_to_num(300.0)
    changed = dict(batch)
    if what == "role":
        changed["role"] = batch["role"].clone()
        changed["role"][:, :, 2] = related.CREDITED
    elif what == "same_album":
        changed["same_album"] = ~batch["same_album"]
    elif what == "order":
        changed |= {name: batch[name].flip(2) for name in OF_HISTORY}
    elif what == "category":
        changed["history_category"] = (batch["history_category"] + 1) % 3
    elif what == "month":
        changed["history_month"] = batch["history_month"] - 24.0
    else:
        changed[f"history_{what}"] = batch[f"history_{what}"] * 0.5 + 1
    with torch.no_grad():
        assert (net(changed) - net(batch)).abs().amax((0, 2)).min() > 1e-4


def test_months_between_songs_count_with_their_sign():
    """A song released a year before is another neighbour than one released a year later, or without a date."""
    net, batch = network(), batch_of([4])
    months = [batch["month"][0] + gap for gap in (-12.0, 12.0, -120.0, math.nan)]
    with torch.no_grad():
        raw = [net({**batch, "history_month": torch.full_like(batch["history_month"], month)}) for month in months]
    assert all((one - other).abs().max() > 1e-3 for i, one in enumerate(raw) for other in raw[:i])
    net.zero_grad()
    net({**batch, "history_month": torch.full_like(batch["history_month"], float(months[0]))}).sum().backward()
    assert (net.members[0].gap.weight.grad.abs().sum(0) > 0).all(), "the months and the mark of a known date"


def test_unknown_dates_are_told_apart_from_equal_dates():
    net, batch = network(), batch_of([4, 2])
    same_day = {**batch, "history_month": batch["month"][None, :, None].expand(batch["history_month"].shape)}
    undated = {**batch, "month": torch.full_like(batch["month"], torch.nan)}
    with torch.no_grad():
        assert torch.isfinite(net(undated)).all()
        assert not torch.allclose(net(same_day), net({**same_day, "month": undated["month"]}), atol=1e-3)


def test_statistics_of_a_history():
    """Shrunk means of the artist's and of credited songs, number and extremes of the artist's songs, by a plain loop.

    They are read off the linear skip, which adds each of them to the outputs by its weight.
    """
    net, batch = network(), batch_of([0, 3, 9, 20])
    skip = net.members[0].skip
    assert skip.in_features == S + E + 5
    found = []
    with torch.no_grad():
        before = net(batch)[0]
        for column in range(S + E, S + E + 5):
            skip.weight[:, column] += 1
            found.append((net(batch)[0] - before).mean(-1))
            skip.weight[:, column] -= 1
    for i, numbers in enumerate(torch.stack(found, 1)):
        same, credited = (
            batch["history_label"][0, i][batch["role"][0, i] == role].tolist()
            for role in (related.SAME, related.CREDITED)
        )
        expected = [sum(same) / (len(same) + 1.2), math.log1p(len(same)), sum(credited) / (len(credited) + 1.2)]
        expected += [max(same, default=0), min(same, default=0)]
        assert numbers.tolist() == pytest.approx(expected, abs=1e-4)


def test_songs_on_the_album_count_in_number_and_mean():
    """`Reading.album` is the shrunk mean, the log of the number, the highest and the lowest."""
    batch = batch_of([8, 3])
    found = histories.read(histories.histories_of(batch).sample(0), batch["month"]).album
    for i in range(2):
        labels = batch["history_label"][0, i][batch["same_album"][0, i]].tolist()
        expected = [sum(labels) / (len(labels) + 1.2), math.log1p(len(labels))]
        expected += [max(labels, default=0), min(labels, default=0)]
        assert found[i].tolist() == pytest.approx(expected, abs=1e-5)
    without = {name: value for name, value in batch.items() if name != "same_album"}
    assert histories.read(histories.histories_of(without).sample(0), batch["month"]).album is None


@pytest.mark.parametrize("part", ["album_role", "album_extras", "album_skip"])
def test_weights_for_albums_start_at_nothing(part):
    """At first a network predicts as if there were no albums; then each weight does something."""
    from popularity.features.base import Inputs

    torch.manual_seed(0)
    net = history.HistoryMamba(
        Inputs(song=S, extras=E, codes=CODES), 12, members=1, width=8, d_state=4, mlp_width=0
    ).eval()
    batch = batch_of([6, 6])
    batch["role"] = torch.full_like(batch["role"], related.SAME)
    without = {name: value for name, value in batch.items() if name != "same_album"}
    with torch.no_grad():
        assert torch.equal(net(batch), net(without))
        torch.nn.init.normal_(getattr(net.members[0], part))
        assert not torch.allclose(net(batch), net(without), atol=1e-3)


def test_members_learn_alone():
    """The loss of the model is the mean of the members' own, and no gradient of one depends on another."""
    net, head = network(outputs=60, members=2, bidirectional=False).train(), heads.HistogramHead()
    batch, target = batch_of([2, 5, 4], samples=2), torch.tensor([5.0, 40.0, 80.0])
    raw = net(batch)
    assert raw.shape == (2, 3, 60)
    loss = head.loss(raw, target)
    torch.testing.assert_close(loss, torch.stack([head.loss(part, target) for part in raw]).mean())
    loss.backward()
    together = [[p.grad.clone() for p in member.parameters()] for member in net.members]
    for i, member in enumerate(net.members):
        net.zero_grad()
        head.loss(net(batch)[i], target).backward()
        for parameter, gradient in zip(member.parameters(), together[i], strict=True):
            torch.testing.assert_close(parameter.grad / 2, gradient, atol=1e-6, rtol=1e-4)
        assert all(p.grad is None or not p.grad.any() for p in net.members[1 - i].parameters())


@pytest.mark.parametrize("kind", ["HistogramHead", "MSEHead"])
def test_in_evaluation_the_model_is_the_mean_of_its_members(kind):
    """Each member reads its own share of the sampled histories; what is averaged are probabilities, or points."""
    head = getattr(heads, kind)()
    net, batch = network(outputs=head.outputs, members=2), batch_of([2, 5, 4], samples=6)
    with torch.no_grad():
        raw = net(batch)
        apart = [net.members[at // 3](batch, histories.histories_of(batch).sample(at)) for at in range(6)]
        torch.testing.assert_close(raw, torch.stack(apart))
        mixed = head.mix(raw)
        points = torch.stack([head.predict(one) for one in apart])
        assert points.std(0).min() > 0.1
        torch.testing.assert_close(head.predict(mixed), points.mean(0))
        if kind == "HistogramHead":
            shares = torch.stack([head.probabilities(one) for one in apart]).mean(0)
            torch.testing.assert_close(head.probabilities(mixed), shares)


def test_members_share_samples_where_there_are_too_few():
    net, batch = network(members=3), batch_of([2, 5], samples=2)
    with torch.no_grad():
        expected = [member(batch, histories.histories_of(batch).sample(i % 2)) for i, member in enumerate(net.members)]
        torch.testing.assert_close(net(batch), torch.stack(expected))


@pytest.mark.parametrize("kind", ["HistogramHead", "MSEHead"])
def test_copies_of_a_history_are_mixed_to_itself(kind):
    head = getattr(heads, kind)()
    net, batch = network(outputs=head.outputs), batch_of([2, 5, 4])
    with torch.no_grad():
        alone = head.predict(net(batch)[0])
        torch.testing.assert_close(head.predict(head.mix(net(batch))), alone)
        thrice = {k: torch.cat([v] * 3) if k in OF_HISTORY else v for k, v in batch.items()}
        torch.testing.assert_close(head.predict(head.mix(net(thrice))), alone)


def test_one_token_has_nothing_to_scan():
    """All tokens are added up: the order of a history is gone, its songs are not."""
    net, batch = network(one_token=True), batch_of([6, 3, 6])
    with torch.no_grad():
        before = net(batch)
        flipped = {**batch, **{name: batch[name].flip(2) for name in OF_HISTORY}}
        torch.testing.assert_close(net(flipped), before, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(net({**batch, "history_label": -batch["history_label"]}), before, atol=1e-3)


def test_extras_are_read_if_there_are_any():
    batch = batch_of([6, 3, 0])
    with torch.no_grad():
        net = network()
        assert not torch.allclose(net(batch), net({**batch, "extras": batch["extras"] + 1}), atol=1e-3)
        assert torch.isfinite(network(extras=0)({**batch, "extras": batch["extras"][:, :0]})).all()


def test_songs_without_histories():
    with torch.no_grad():
        assert torch.isfinite(network()(batch_of([0, 0]))).all()


@pytest.mark.parametrize("settings", SETTINGS, ids=named)
def test_half_precision_is_finite_and_near(settings):
    net, batch, head = network(outputs=60, **settings), batch_of([0, 3, 14]), heads.HistogramHead()
    with torch.no_grad():
        expected = head.predict(head.mix(net(batch)))
        half = {name: value.bfloat16() if value.is_floating_point() else value for name, value in batch.items()}
        found = head.predict(head.mix(net.bfloat16()(half)))
    torch.testing.assert_close(found, expected, atol=3.0, rtol=0)


def test_dropout_and_feature_dropout_act_in_training_alone():
    batch = batch_of([6, 3])
    for settings in ({"dropout": 0.5}, {"feature_dropout": 0.5}):
        net = network(**settings)
        with torch.no_grad():
            assert torch.equal(net(batch), net(batch))
            net.train()
            assert not torch.equal(net(batch), net(batch)), settings


@pytest.mark.parametrize("hidden", ["song", "category", "extras", "same_album"])
def test_feature_dropout_hides_each_kind_of_input(hidden):
    """With nearly all features hidden, a change of one kind of input is rarely seen."""
    net, batch = network(feature_dropout=0.999, interactions=0).train(), batch_of([3] * 30)
    batch["role"] = torch.full_like(batch["role"], related.RETRIEVED)
    batch["same_album"] = torch.zeros_like(batch["same_album"])
    with torch.no_grad():
        for parameter in net.members[0].skip.parameters():
            parameter.zero_()  # the skip reads the inputs as they are
        torch.nn.init.zeros_(net.members[0].album_role[1])
        other = dict(batch)
        if hidden == "category":
            other["category"] = (batch["category"] + 1) % 3
        elif hidden == "same_album":
            other["same_album"] = torch.ones_like(batch["same_album"])
        else:
            other[hidden] = batch[hidden] + 1
        torch.manual_seed(1)
        before = net(batch)
        torch.manual_seed(1)
        seen = ((net(other) - before).abs().amax((0, 2)) > 1e-6).float().mean()
        assert seen < 0.2
        net.eval()
        assert ((net(other) - net(batch)).abs().amax((0, 2)) > 1e-6).all()


def test_a_list_has_a_value_for_each_member():
    from popularity.models.blocks import member_configs

    rest = {"layers": 1, "d_state": 16, "d_conv": 4, "expand": 2}
    configs = member_configs(3, block=("mamba2", "mamba"), width=[48, 24], bidirectional=True, dropout=0.1, **rest)
    assert [config.width for config in configs] == [48, 24, 48], "it begins again"
    assert [config.block for config in configs] == ["mamba2", "mamba", "mamba2"]
    assert {(config.bidirectional, config.dropout, config.d_state) for config in configs} == {(True, 0.1, 16)}


def test_the_second_member_is_regularised_less():
    from popularity.features.base import Inputs

    first, second, _ = history.HistoryMamba(Inputs(song=S, extras=E, codes=CODES), 12).members
    assert first.feature_dropout > second.feature_dropout > 0
    assert len(first.readout_token) > len(second.readout_token)


def test_interactions_are_products_of_numbers_and_categories():
    """What a number says depends on the category, before any block; texts are not among the numbers."""
    from popularity.models.interactions import Interactions

    torch.manual_seed(0)
    net = Interactions(3, CODES, 16, 5, 0.5).eval()
    numbers, category = torch.randn(2, 3), torch.tensor([[1] * len(CODES), [2] * len(CODES)])
    with torch.no_grad():
        slopes = [net(numbers + 1, one.expand(2, -1)) - net(numbers, one.expand(2, -1)) for one in category]
    assert not torch.allclose(*slopes, atol=1e-2)
    net = network()
    without, batch = network(interactions=0), batch_of([2, 0, 3])
    without.load_state_dict({name: value for name, value in net.state_dict().items() if "interactions" not in name})
    other = {**batch, "song": torch.cat([batch["song"][:, :-1], batch["song"][:, -1:] + 1], 1)}

    def parts(batch):
        with torch.no_grad():
            return net(batch) - without(batch)

    assert parts(batch).abs().min(-1).values.min() > 0
    torch.testing.assert_close(parts(other), parts(batch), atol=1e-5, rtol=1e-4)
    for name in ("category", "extras"):
        other = {**batch, name: (batch[name] + 1) % 3}
        assert not torch.allclose(parts(other), parts(batch), atol=1e-3), name


def test_feature_dropout_hides_nothing_from_interactions():
    net, batch = network(feature_dropout=0.999).train(), batch_of([0, 0])
    other = {**batch, "category": (batch["category"] + 1) % 3}
    torch.manual_seed(1)
    before = net(batch)
    torch.manual_seed(1)
    assert not torch.allclose(net(other), before, atol=1e-3)


@pytest.mark.parametrize("reads", ["song", "category", "extras", "history_label", "role", "same_album"])
def test_the_mlp_reads_numbers_and_statistics(reads):
    net, batch = network(members=0, mlp_width=8), batch_of([3, 2])
    changed = ~batch[reads] if batch[reads].dtype == torch.bool else (batch[reads] + 1) % 3
    with torch.no_grad():
        assert not torch.allclose(net({**batch, reads: changed}), net(batch), atol=1e-4)


def test_categories_of_the_mlp_start_smaller_than_its_numbers():
    """With larger ones a category weighs more than all numbers together, and is learned by heart."""
    net, batch = network(members=0, mlp_width=256), batch_of([3] * 20)
    (mlp,) = net.members
    seen = []
    mlp.numbers.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    net(batch)
    categories = mlp.category(batch["category"])
    assert 0 < categories.std() < 0.5 * seen[0].std()


def test_the_mlp_reads_no_bins_components_or_known_songs():
    from popularity.features.base import Inputs

    torch.manual_seed(0)
    net = history.HistoryMamba(Inputs(song=S, numbers=S - 2, plain=2, components=1, extras=E, codes=CODES), 12, 0)
    net, batch = net.eval(), batch_of([3, 2])
    other = batch["song"].clone()
    other[:, 2 : S - 2], other[:, -1] = 7, 7
    unread = {
        "song": other,
        "history_song": batch["history_song"] + 1,
        "history_category": batch["history_category"] * 0,
    }
    with torch.no_grad():
        torch.testing.assert_close(net({**batch, **unread}), net(batch))
        other[:, S - 2] = 7  # a statistic of the title
        assert not torch.allclose(net({**batch, "song": other}), net(batch), atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"members": 0}, "model.net.members: expected at least 1, got 0"),
        ({"members": -1, "mlp_width": 8}, "model.net.members: expected at least 0, got -1"),
        ({"mlp_width": -1}, "model.net.mlp_width: expected at least 0, got -1"),
        ({"mlp_width": 8, "mlp_dropout": 1.0}, "model.net.mlp_dropout: expected at least 0 and below 1, got 1.0"),
        ({"width": 0}, "model.net.width: expected at least 1, got 0"),
        ({"width": (8, 0), "members": 2}, "model.net.width: expected at least 1, got 0"),
        ({"width": ()}, "model.net.width: expected a value, or one for each member, got an empty list"),
        ({"d_state": 0}, "model.net.d_state: expected at least 1, got 0"),
        ({"d_state": 3, "block": "mamba3"}, "model.net.d_state: expected at least 4 for block mamba3, got 3"),
        ({"interactions": -1}, "model.net.interactions: expected at least 0, got -1"),
        ({"interaction_dropout": 1.0}, "model.net.interaction_dropout: expected at least 0 and below 1"),
        ({"dropout": 1.0}, "model.net.dropout: expected at least 0 and below 1, got 1.0"),
        ({"feature_dropout": -0.1}, "model.net.feature_dropout: expected at least 0 and below 1, got -0.1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    from popularity.errors import InputError

    with pytest.raises(InputError, match=message):
        network(**settings)


def test_an_encoder_of_another_kind_is_refused():
    from popularity.errors import InputError
    from popularity.features.base import Inputs

    with pytest.raises(InputError, match=r"HistoryMamba: expected data.encoder HistoryEncoder"):
        history.HistoryMamba(Inputs(columns=13), 12)
