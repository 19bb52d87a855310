import csv
import json
import math
import re
from html.parser import HTMLParser

import pytest

from fedloom.report import write_report
from fedloom.report.page._citations import _ACCOUNTANTS, _OF_SETTINGS, citations
from fedloom.report.page._numbers import metric_of
from fedloom.report.page._references import REFERENCES
from fedloom.report.page._scale import axis, bins, counts, evenly, log_axis, thin

CONFIG = {
    "rounds": 4,
    "cohort_size": 10,
    "num_clients": 1387,
    "algorithm": "fedprox",
    "aggregator": "chain(clipping, quantize, mean)",
    "client_optimizer": "adam",
    "sampling": "uniform",
    "seed": 4711,
    "batching": {"size": 8, "shuffle": True, "deeper": {"still": [1, 2]}},
    "privacy": None,
    "parameters": 4048470,
    "environment": {"fedloom": "0.1.0", "devices": ["cpu"]},
}
SENT = {"bytes_up": 2e6, "bytes_down": 1e6, "num_clients": 10.0}
ROUNDS = [
    {"round": 0, "eval_loss": 1.916, "eval_accuracy": 0.471},
    {"round": 1, "loss": 1.93, "accuracy": 0.464, **SENT, "num_failed_clients": 0.0},
    {"round": 2, "loss": 1.82, "accuracy": 0.48, **SENT, "eval_loss": 1.6, "eval_accuracy": 0.53},
    {"round": 3, "loss": 1.72, "accuracy": 0.51, **SENT},
    {"round": 4, "loss": 1.68, "accuracy": 0.52, **SENT, "eval_loss": 1.66, "eval_accuracy": 0.528},
]
FINISHED = {"status": "finished", "round": 4, "rounds": 4, "reason": "", "best": {"metric": "accuracy", "value": 0.53, "round": 2}}


PLACES = {"d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"}  # attributes of drawings


def write_csv(path, rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def run_folder(path, *, config=None, status=FINISHED, samples=None, **tables):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    if status:
        (path / "status.json").write_text(json.dumps(status))
    if samples:
        (path / "samples.json").write_text(json.dumps(samples))
    for name, rows in tables.items():
        write_csv(path / f"{name}.csv", rows)
    return path


class Page(HTMLParser):
    """A page taken apart: its text, its elements, what it would load; and it must be well formed."""

    VOID = ("meta", "link")

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.texts, self.attributes = [], [], {}, []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, *attr) for attr in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]] = self.texts.get(self.open[-1], "") + data

    @property
    def text(self):
        return "\n".join(text for tag, text in self.texts.items() if tag != "style")


def page_of(folder):
    path = write_report(folder)
    assert path == folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def held_out(*accuracies):
    return [
        {"client": f"client {i}", "num_examples": 10.0 + i, "accuracy_before": before, "accuracy_after": after}
        for i, (before, after) in enumerate(accuracies)
    ]


def test_the_headline_has_both_values_the_change_and_the_best_round(tmp_path):
    page = page_of(run_folder(tmp_path / "run", metrics=ROUNDS))
    assert page.texts["h1"] == "Held-out accuracy rose from 47.1% to 52.8%"
    assert "+5.7 points" in page.text
    assert "The best model was the one after round 2, with 53.0%." in page.text
    assert "Held-out loss fell from 1.92 to 1.66." in page.text
    assert "A model of 4.05 million weights was trained by FedProx for 4 rounds, 10 of 1,387 clients in each." in page.text


ROSE, OF_40 = "Held-out accuracy rose", "After 4 of 40 rounds: held-out accuracy rose"
GUARDED = "The model is worse than the one the run started from: 0.4"


@pytest.mark.parametrize(
    ("last", "status", "warnings", "title", "said"),
    [
        (
            {"eval_accuracy": 0.402},
            {},
            [],
            "Held-out accuracy fell from 47.1% to 40.2%, so the model became worse",
            "Use the one of round 2",
        ),
        ({"eval_accuracy": math.nan}, {}, [], "Training diverged: held-out accuracy was 47.1%, and is not a number now", "is worse than"),
        ({"eval_accuracy": 0.471}, {}, [], "Held-out accuracy stayed at 47.1%", ""),
        ({}, {"status": "stopped"}, [GUARDED], ROSE, "The guard warned once, in round 2"),
        ({}, {"status": "failed", "reason": "OSError: gone"}, [], ROSE, "The run failed after round 4: OSError: gone"),
        ({}, {"status": "interrupted", "reason": "SIGTERM", "rounds": 40}, [], OF_40, "Interrupted (SIGTERM) after round 4"),
        ({}, {"status": "running", "rounds": 40}, [], OF_40, "still going on"),
    ],
)
def test_the_headline_is_honest(tmp_path, last, status, warnings, title, said):
    told = [{"round": 2, "text": text} for text in warnings]
    page = page_of(run_folder(tmp_path / "run", status=FINISHED | status, metrics=[*ROUNDS[:-1], ROUNDS[-1] | last], warnings=told))
    assert page.texts["h1"].startswith(title)
    assert said in page.text


def test_a_run_that_evaluated_nothing_says_so(tmp_path):
    rows = [{name: value for name, value in row.items() if not name.startswith("eval_")} for row in ROUNDS]
    page = page_of(run_folder(tmp_path / "run", metrics=rows))
    assert page.texts["h1"] == "Trained for 4 rounds, and not evaluated on held-out data"
    assert "on the data it was trained on went from 1.93 to 1.68" in page.text


def test_a_run_with_only_its_start_evaluated_compares_nothing(tmp_path):
    page = page_of(run_folder(tmp_path / "run", status={**FINISHED, "round": 1}, metrics=ROUNDS[:2]))
    assert page.texts["h1"] == "After 1 of 4 rounds: only the start model was evaluated, with a held-out accuracy of 47.1%"


def test_the_direction_of_best_by_is_kept(tmp_path):
    rows = [{"round": 0, "eval_mae": 2.0}, {"round": 1, "eval_mae": 3.0}]
    config, status = {"best_by": "lower:mae"}, {"status": "finished", "round": 1, "rounds": 1}
    assert "became worse" in page_of(run_folder(tmp_path / "lower", config=config, status=status, metrics=rows)).texts["h1"]
    better = page_of(run_folder(tmp_path / "higher", config={"best_by": "higher:mae"}, status=status, metrics=rows))
    assert better.texts["h1"] == "Held-out mae rose from 2.00 to 3.00"


@pytest.mark.parametrize("metrics", [None, [], ROUNDS[:1], [{"round": 0}], [{"round": 1, "loss": math.inf, "eval_loss": math.nan}]])
def test_a_folder_with_little_in_it_still_has_a_page(tmp_path, metrics):
    tables = {} if metrics is None else {"metrics": metrics}
    for status in (None, FINISHED):
        page = page_of(run_folder(tmp_path / "run", status=status, **tables))
        assert page.texts["h1"] and "4,048,470" in page.text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308, -1.0, 0.0, 5e-324])
def test_no_number_breaks_a_chart(tmp_path, value):
    names = ("loss", "eval_loss", "eval_accuracy", "eval_x.loss", "bytes_up", "num_clients", "epsilon", "server.norm")
    times = ("seconds", "data_seconds", "compute_seconds", "evaluate_seconds", "clients_per_second")
    page = page_of(
        run_folder(
            tmp_path / "run",
            metrics=[{"round": r, **dict.fromkeys(names, value if r % 2 else 0.5)} for r in range(5)],
            timing=[{"round": r, **dict.fromkeys(times, value if r % 2 else 0.5)} for r in range(5)],
            held_out_clients=[
                {"client": "a", "num_examples": value, "accuracy_before": value, "accuracy_after": 0.5},
                *held_out((0.4, 0.5)),
            ],
        )
    )
    places = [number for _, name, value in page.attributes if name in PLACES for number in re.findall(r"[\w.-]+", value.strip("M"))]
    assert len(places) > 100 and all(-1 <= float(number) <= 521 for number in " ".join(places).replace("L", " ").split())


def test_an_empty_config_is_enough(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert "not evaluated" in page_of(tmp_path).texts["h1"]


def test_nothing_from_data_is_markup(tmp_path):
    evil = "<script>alert('x')</script><img src=x onerror=\"y\">&amp;"
    folder = run_folder(
        tmp_path / "run",
        config={"model": evil, evil: {evil: evil}, "task": "shakespeare", "environment": {evil: [evil]}},
        status={**FINISHED, "status": "failed", "reason": evil},
        samples=[{"round": 0, "prompt": evil, "text": f"{evil}\x00\x1b \ud800 it"}],
        metrics=[row | ({f"eval_{evil}.accuracy": 0.5, evil: float(row["round"])}) for row in ROUNDS],
        held_out_clients=[row | {"client": evil} for row in held_out((0.4, 0.5), (0.5, 0.4))],
        clients=[{"round": 1, "client": evil, "reason": evil}],
        warnings=[{"round": 1, "text": evil}],
    )
    page = page_of(folder)
    assert not {"script", "img"} & set(page.elements)
    assert not [attribute for _, attribute, _ in page.attributes if attribute.startswith("on")]
    assert page.text.count(evil) > 10
    assert "\x00" not in page.text and "\x1b" not in page.text


def test_nothing_is_loaded_from_anywhere(tmp_path):
    page = page_of(full_folder(tmp_path / "run"))
    loads = [(tag, name, value) for tag, name, value in page.attributes if name in ("src", "href", "srcset", "data", "action", "poster")]
    assert [value for tag, _, value in loads if tag != "a"] == ["data:,"]  # so that no browser asks for an icon
    outside = {value for tag, _, value in loads if tag == "a" and not value.startswith("#")}
    assert outside == {paper.link for _, paper in citations(CONFIG)}
    assert "url(" not in page.texts["style"] and "@import" not in page.texts["style"]
    assert any("default-src 'none'" in (value or "") for tag, _, value in page.attributes if tag == "meta")


def full_folder(path):
    return run_folder(
        path,
        metrics=ROUNDS,
        timing=[{"round": r, "seconds": 2.0, "data_seconds": 0.5, "compute_seconds": 1.0, "aggregate_seconds": 0.25} for r in range(1, 5)],
        held_out_clients=held_out(*[(0.4 + 0.01 * i, 0.45 + 0.009 * i) for i in range(60)]),
        clients=[{"round": 3, "client": "ada", "reason": "it took longer than 30.0 s"}, {"round": 3, "client": "bob", "reason": ""}],
        warnings=[{"round": r, "text": f"Loss is {r}.5"} for r in (1, 2, 4)],
        samples=[{"round": 0, "prompt": "To be", "text": "To be, or so"}],
    )


def test_all_parts_are_there_and_links_lead_to_them(tmp_path):
    page = page_of(full_folder(tmp_path / "run"))
    anchors = [value for tag, name, value in page.attributes if tag == "a" and name == "href" and value.startswith("#")]
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert [anchor[1:] for anchor in anchors] == [name for name in ids if not name.endswith("-title")]
    assert {"#curves", "#clients", "#samples", "#costs", "#left-out", "#warnings", "#settings", "#environment", "#papers"} == set(anchors)
    assert len(ids) == len(set(ids))
    images = [name for tag, name, _ in page.attributes if tag == "svg" and name == "aria-label"]
    assert len(images) == page.elements.count("svg") == 8


def test_costs_add_up(tmp_path):
    page = page_of(full_folder(tmp_path / "run"))
    assert "8 MB" in page.text and "4 MB" in page.text and "2 MB per round" in page.text  # four rounds of 2 MB up and 1 MB down
    assert "8 s" in page.text  # four rounds of 2 s
    assert "clients' work 50% " in page.text and "waiting for data 25% " in page.text and "other 12% " in page.text


def test_clients_are_counted_by_who_gains(tmp_path):
    changed = [
        (0.2, 0.1),
        *[(0.5, 0.5 + 0.01 * i) for i in range(19)],
    ]  # the worst tenth are two clients: before 0.2 and 0.5, after 0.1 and 0.5
    page = page_of(run_folder(tmp_path / "run", metrics=ROUNDS, held_out_clients=held_out(*changed)))
    assert "Of 20 held-out clients, 18 (90%) gained in accuracy, 1 (5%) lost, and 1 stayed the same." in page.text
    assert "The mean accuracy of the worst 10% of clients went from 35.0% to 30.0%." in page.text
    assert "18 of 20" in page.text


def test_who_did_not_change_is_drawn_as_neither_better_nor_worse(tmp_path):
    page = page_of(run_folder(tmp_path / "run", metrics=ROUNDS, held_out_clients=held_out((0.5, 0.5), (0.5, 0.5), (0.4, 0.5))))
    bars = [value for tag, name, value in page.attributes if tag == "rect" and name == "class" and value in ("bar gain", "bar loss")]
    assert bars == ["bar gain"] and "2 clients stayed the same." in page.text


def test_of_a_loss_less_is_a_gain(tmp_path):
    rows = [{"client": "a", "loss_before": 2.0, "loss_after": 1.0}, {"client": "b", "loss_before": 1.0, "loss_after": 1.5}]
    metrics = [{"round": 0, "eval_loss": 2.0}, {"round": 1, "eval_loss": 1.0}]
    page = page_of(run_folder(tmp_path / "run", metrics=metrics, held_out_clients=rows))
    assert "Of 2 held-out clients, 1 (50%) gained in loss, 1 (50%) lost." in page.text


def test_a_run_cut_short_says_that_clients_were_not_measured_after_it(tmp_path):
    rows = [{name: value for name, value in row.items() if not name.endswith("_after")} for row in held_out((0.4, 0.5), (0.5, 0.4))]
    page = page_of(run_folder(tmp_path / "run", metrics=ROUNDS, held_out_clients=rows))
    assert "2 held-out clients were evaluated one by one with the start model" in page.text


def test_privacy_is_told_in_words_and_the_seed_is_not_told(tmp_path):
    budget = {"epsilon": 3.0, "delta": 1e-5, "sampling": {"cohort_size": 10, "population": 1387}, "accountant": "rdp"}
    rows = [row | ({"epsilon": math.log(2) * row["round"] / 4} if row["round"] else {}) for row in ROUNDS]
    config = {"privacy": budget, "sampling": "poisson", "noise_multiplier": 1.1}
    page = page_of(run_folder(tmp_path / "run", config=config, metrics=rows, clients=[{"round": 1, "client": "zoe", "reason": "late"}]))
    assert "at most 2 times as likely as it would have been without that client" in page.text  # e^(ln 2)
    assert "a strong guarantee" in page.text and "ε = 0.693" in page.text and "1 \u00d7 10⁻⁵" in page.text
    assert "4711" not in page.text and "zoe" not in page.text
    assert "Rényi Differential Privacy" in page.text
    assert "4711" in page_of(run_folder(tmp_path / "open", metrics=ROUNDS)).text


def test_warnings_that_differ_in_numbers_are_one(tmp_path):
    page = page_of(full_folder(tmp_path / "run"))
    assert page.text.count("Loss is") == 1 and "Loss is 4.5" in page.text and "1 to 4" in page.text


def test_settings_are_flat_and_readable(tmp_path):
    page = page_of(run_folder(tmp_path / "run"))
    assert all(text in page.text for text in ("deeper.still", "1, 2", "1,387", "yes", "none"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("config.json", '{"rounds": 4', "is not JSON"),
        ("config.json", "[]", "should have an object"),
        ("config.json", '{"privacy": "yes"}', "privacy should be an object"),
        ("status.json", '{"best": 3}', "best should be an object"),
        ("samples.json", '[{"round": 1}]', "round, prompt and text"),
        ("metrics.csv", "round,loss\n1\n", "line 2 has 1 fields, and the header 2"),
        ("metrics.csv", "round,loss\n1,0.5\n2,0..5\n", "line 3 has '0..5' for loss"),
        ("metrics.csv", "round,loss\nx,0.5\n", "for round"),
        ("metrics.csv", "loss\n0.5\n", "no column 'round'"),
        ("timing.csv", 'round,seconds\n1,"2', "line"),
        ("held_out_clients.csv", "client,loss_before\na,b\n", "not a number"),
        ("warnings.csv", "round,text\n1.5,x\n", "not a whole number"),
        ("clients.csv", "round,client,reason\n1,a\n2,b,late\n", "line 2"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, name, text, said):
    folder = run_folder(tmp_path / "run")
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{re.escape(name)} is damaged: .*{re.escape(said)}.*\. Restore it from a copy"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_bytes_that_are_no_text_are_named(tmp_path):
    folder = run_folder(tmp_path / "run")
    (folder / "metrics.csv").write_bytes(b"round\n\xff\n")
    with pytest.raises(ValueError, match=r"metrics\.csv is damaged: it is not UTF-8"):
        write_report(folder)


def test_the_last_line_of_the_table_that_grows_may_be_cut_off(tmp_path):
    folder = run_folder(tmp_path / "run", metrics=ROUNDS)
    (folder / "clients.csv").write_text("round,client,reason\n1,ada,late\n2,bo")
    page = page_of(folder)
    assert "ada" in page.text and "bo" not in page.texts["td"].split()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no config.json"):
        write_report(tmp_path)


def test_a_vector_among_the_metrics_is_passed_over(tmp_path):
    page_of(run_folder(tmp_path / "run", metrics=[ROUNDS[0] | {"server.weights": "[0.5, 0.5]"}]))


def test_thinning_keeps_ends_and_extremes():
    points = [(float(x), math.sin(x)) for x in range(10_000)]
    points[1234], points[8765] = (1234.0, 50.0), (8765.0, -50.0)
    kept = thin(points)
    assert len(kept) <= 1000 and kept == sorted(kept)
    assert {points[0], points[-1], points[1234], points[8765]} <= set(kept)
    assert thin(points[:1000]) == points[:1000]


def test_a_long_run_of_many_clients_is_a_small_page(tmp_path):
    rows = [{"round": r, "loss": 1 / (r + 1), "eval_loss": 1 / (r + 2), "bytes_up": 1e6, "epsilon": r / 1e4} for r in range(10_001)]
    clients = held_out(*[(0.3 + (i * 37 % 1000) / 4000, 0.4 + (i * 91 % 1000) / 4000) for i in range(100_000)])
    timing = [{"round": r, "seconds": 1.0, "compute_seconds": 0.9} for r in range(1, 10_001)]
    folder = run_folder(tmp_path / "run", config={"rounds": 10_000}, metrics=rows, held_out_clients=clients, timing=timing)
    assert write_report(folder).stat().st_size < 700_000


@pytest.mark.parametrize(
    "values",
    [
        [0, 40],
        [0.471, 0.528],
        [1],
        [],
        [5e-324, 1e-300],
        [-1e99, 1e99],
        [math.nan, 2],
        [0.1 + 0.2, 0.3],
        [1e15, 1e15 + 1],
        [0, 0],
        [2e-5, 2.001e-5],
    ],
)
def test_an_axis_has_few_round_ticks_around_its_values(values):
    for settings in ({}, {"tight": True}, {"zero": True}, {"whole": True}):
        found = axis(values, **settings)
        assert 0 < len(found.ticks) <= 8 or settings == {"tight": True}
        assert len(found.ticks) == len(found.labels) == len(set(found.labels))
        assert found.low < found.high and all(0 <= found.place(value) <= 1 for value in values if math.isfinite(value))


def test_ticks_are_round():
    assert axis([0, 40], tight=True, whole=True).labels == ["0", "10", "20", "30", "40"]
    assert axis([0.471, 0.528], metric=metric_of("accuracy", [0.471])).labels == ["46%", "48%", "50%", "52%", "54%"]
    assert log_axis([1, 1000]).labels == ["1", "10", "100", "1,000"]


def test_bins_hold_every_value_and_split_at_zero():
    values = [-0.031, -0.01, 0.0, 0.004, 0.079]
    edges, step = bins(values)
    assert sum(counts(values, edges, step)) == len(values) and any(abs(edge) < 1e-12 for edge in edges)
    assert sum(counts([2.0, 2.0], *bins([2.0, 2.0]))) == 2


def test_evenly_keeps_the_ends():
    assert evenly(list(range(100)), 5) == [0, 25, 50, 74, 99]


@pytest.mark.parametrize(
    ("name", "before", "after", "change", "texts"),
    [
        ("accuracy", 0.471, 0.528, "+5.7 points", ("47.1%", "52.8%")),
        ("accuracy", 0.99121, 0.99184, "+0.063 points", ("99.121%", "99.184%")),
        ("loss", 1.916, 1.84, "\u22120.076", ("1.916", "1.840")),
        ("perplexity", 1234.0, 981.0, "\u2212253", ("1,234", "981")),
        ("accuracy", 0.5, 0.5, "0.0 points", ("50.0%", "50.0%")),
        ("loss", 1.0, math.nan, "not finite", ("1.000", "not a number")),
    ],
)
def test_values_have_digits_that_tell_them_apart(name, before, after, change, texts):
    metric = metric_of(name, [before, after])
    decimals = metric.decimals(before, after)
    assert (metric.change(before, after), (metric.text(before, decimals), metric.text(after, decimals))) == (change, texts)


def test_every_method_is_cited_and_every_paper_is_known():
    from fedloom.aggregators._registry import AGGREGATORS
    from fedloom.algorithms._registry import ALGORITHMS

    keys = {key for _, known in _OF_SETTINGS.values() for papers in known.values() for key in papers}
    assert keys | {key for papers in _ACCOUNTANTS.values() for key in papers} == set(REFERENCES)
    assert not [name for name in ALGORITHMS if not citations({"algorithm": name})]
    plain = {"mean", "sum", "chain"}
    names = {make().name for make in AGGREGATORS.values()}
    assert not [name for name in names - plain if not citations({"aggregator": name})]
    assert all(paper.link.startswith("https://") or not paper.link for paper in REFERENCES.values())
