"""Metrics of texts in images, boxes, masks and retrieval, and the bootstrap."""

import contextlib
import io
import random

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.stats import binomtest

from openpali.metrics.bootstrap import bootstrap_interval, cluster_interval, mean_interval, wilson_interval
from openpali.metrics.boxes import Detection, average_precision, box_iou, detection_f1, distinct
from openpali.metrics.edit import edit_distance
from openpali.metrics.masks import mask_scores, overlap
from openpali.metrics.ocr import ocr
from openpali.metrics.scores import Scores
from openpali.tasks.scoring import Answered, segmentation
from openpali_lab.benchmarks.metrics.retrieval import retrieval

# --- OCR ---


def test_edit_distance() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert edit_distance(["a", "b"], ["a", "c", "b"]) == 1


@given(st.text("abc", max_size=90), st.text("abc", max_size=12))
@settings(max_examples=30, deadline=None)
def test_edit_distance_is_that_of_the_table(a: str, b: str) -> None:
    table = np.add.outer(np.arange(len(a) + 1), np.arange(len(b) + 1))
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (x != y))
    assert edit_distance(a, b) == edit_distance([*a], [*b]) == table[-1, -1]


def test_ocr_rates_are_of_the_corpus() -> None:
    scores = ocr(["the cat", "a  b", "extra"], ["the bat", "a b", ""])
    assert scores.summary == pytest.approx({"cer": 6 / 10, "wer": 2 / 4, "exact_match": 1 / 3})
    assert scores.per_sample["cer"] == pytest.approx([1 / 7, 0, 1])
    with pytest.raises(ValueError):
        ocr(["a"], [" "])


# --- boxes ---

corners = st.integers(0, 30)
boxes = st.tuples(corners, corners, st.integers(1, 20), st.integers(1, 20)).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)
detections = st.builds(Detection, st.sampled_from(["cat", "dog"]), boxes)
image_boxes = st.lists(
    st.tuples(st.lists(detections, max_size=4), st.lists(detections, max_size=4)), min_size=1, max_size=4
)


def test_boxes_that_are_one_are_kept_once_the_first_of_them() -> None:
    boxes = [(0, 0, 10, 10), (0, 1, 10, 11), (0, 0, 10, 40), (0, 2, 10, 12), (50, 0, 60, 10)]
    assert distinct(boxes, 0.5).tolist() == [0, 2, 4]
    assert distinct(boxes, 0.75).tolist() == [0, 2, 3, 4]  # the fourth is like the second alone, which is left out
    assert distinct([], 0.5).tolist() == []


@given(st.lists(boxes, max_size=12), st.sampled_from([0.17, 0.43, 0.71]))
def test_boxes_are_suppressed_as_by_torchvision(found: list[tuple[float, ...]], most: float) -> None:
    corners = torch.tensor(found, dtype=torch.float64).view(-1, 4)
    kept = torchvision.ops.nms(corners, torch.arange(len(found), 0, -1, dtype=torch.float64), most)
    assert distinct(found, most).tolist() == kept.tolist()


def test_box_iou() -> None:
    ious = box_iou([(0, 0, 10, 10), (5, 5, 5, 5)], [(0, 5, 10, 15), (0, 0, 10, 10), (20, 20, 30, 30)])
    assert ious.tolist() == pytest.approx(np.array([[1 / 3, 1, 0], [0, 0, 0]]))
    assert box_iou([], [(0, 0, 1, 1)]).shape == (0, 1)


@pytest.mark.parametrize(
    ("box", "message"), [((0, 0, np.nan, 1), "finite"), ((0, 0, 1), "four"), ((2, 0, 1, 1), "ymin <= ymax")]
)
def test_malformed_boxes(box: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        box_iou([box], [(0, 0, 1, 1)])


def test_box_accuracy_counts_half_overlap() -> None:
    rest = {"intersection": 0, "union": 1, "ceiling": 1, "invalid": 0}
    scores = segmentation([Answered(0, "", "", "", (), values={**rest, "box_iou": iou}) for iou in (0.5, 0.4)])
    assert scores.per_sample["box_accuracy@0.5"] == [1, 0]
    assert scores.summary["box_accuracy@0.5"] == 0.5


def test_f1_makes_the_most_pairs() -> None:
    # The first prediction overlaps both references, the second only the first: a greedy match would find one pair.
    predictions = [Detection("cat", (0, 0, 10, 10)), Detection("cat", (0, 0, 10, 12))]
    references = [Detection("cat", (0, 0, 10, 11)), Detection("cat", (0, 0, 10, 7))]
    assert detection_f1([predictions], [references], threshold=0.6).summary["f1@0.6"] == 1
    assert detection_f1([predictions[::-1]], [references], threshold=0.6).summary["f1@0.6"] == 1


def test_f1_by_hand() -> None:
    cat, dog, far = (
        Detection(*d) for d in [("cat", (0, 0, 9, 9)), ("dog", (0, 0, 9, 9)), ("cat", (50, 50, 60, 60))]
    )
    scores = detection_f1([[cat, cat, far], [], [dog]], [[cat, dog], [], [cat]])
    assert scores.summary == pytest.approx({"f1@0.5": 2 / 7, "precision@0.5": 1 / 4, "recall@0.5": 1 / 3})
    assert scores.per_sample["f1@0.5"] == pytest.approx([2 / 5, 1, 0])
    assert detection_f1([[]], [[]]).summary == {"f1@0.5": 1, "precision@0.5": 1, "recall@0.5": 1}


@given(image_boxes, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_f1_ignores_order_and_is_perfect_on_itself(samples, shuffle: random.Random) -> None:  # type: ignore[no-untyped-def]
    def score(pairs):  # type: ignore[no-untyped-def]
        return detection_f1([p for p, _ in pairs], [r for _, r in pairs]).summary

    mixed = [
        (shuffle.sample(p, len(p)), shuffle.sample(r, len(r))) for p, r in shuffle.sample(samples, len(samples))
    ]
    assert score(mixed) == score(samples)
    assert all(0 <= value <= 1 for value in score(samples).values())
    assert score([(p, p) for p, _ in samples])["f1@0.5"] == 1


def _coco(predictions: list[list[Detection]], references: list[list[Detection]]) -> dict[str, float]:
    names = ["cat", "dog", "emu"]

    def rows(samples: list[list[Detection]]) -> list[dict[str, object]]:
        found = []
        for image, sample in enumerate(samples):
            for name, (y0, x0, y1, x1), score in sample:
                box = [x0, y0, x1 - x0, y1 - y0]
                row = {"image_id": image, "category_id": names.index(name), "bbox": box, "score": score}
                found.append(row | {"id": len(found) + 1, "area": box[2] * box[3], "iscrowd": 0})
        return found

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": i} for i in range(len(references))],
            "categories": [{"id": i} for i in range(len(names))],
            "annotations": rows(references),
        }
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(rows(predictions)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {"ap": run.stats[0], "ap50": run.stats[1], "ap75": run.stats[2], "ar100": run.stats[8]}


def _scene(rng: random.Random, clutter: int) -> tuple[list[Detection], list[Detection]]:
    """References and noisy scored detections: moved copies, wrong names, and ``clutter`` boxes anywhere."""

    def anywhere() -> Detection:
        y, x = rng.uniform(0, 60), rng.uniform(0, 60)
        box = (y, x, y + rng.uniform(2, 40), x + rng.uniform(2, 40))
        return Detection(rng.choice(["cat", "dog", "emu"]), box, rng.random())

    references = [anywhere() for _ in range(rng.randint(1, 5))]
    copies = [
        Detection(r.name, (r.box[0], r.box[1], r.box[2] + rng.uniform(0, 8), r.box[3]), rng.random())
        for r in references
        for _ in range(rng.randint(0, 2))
    ]
    return [*copies, *(anywhere() for _ in range(clutter))], references


@pytest.mark.parametrize(("seed", "clutter"), [(0, 1), (1, 3), (2, 6), (3, 350)])  # 350: beyond 100 per name
def test_average_precision_equals_pycocotools(seed: int, clutter: int) -> None:
    rng = random.Random(seed)
    predictions, references = map(list, zip(*(_scene(rng, clutter) for _ in range(4)), strict=True))
    official = _coco(predictions, references)
    assert 0 < official["ap"] < 1
    assert average_precision(predictions, references).summary == pytest.approx(official, abs=1e-6)
    # All scores differ here, so the order of images and boxes does not matter.
    mixed = [(p[::-1], r[::-1]) for p, r in zip(predictions, references, strict=True)][::-1]
    again = average_precision([p for p, _ in mixed], [r for _, r in mixed])
    assert again.summary == pytest.approx(official, abs=1e-6)


def test_average_precision_extremes() -> None:
    truth = [[Detection("cat", (0, 0, 9, 9)), Detection("dog", (20, 20, 40, 40))], []]
    assert set(average_precision(truth, truth).summary.values()) == {1.0}
    assert set(average_precision([[], []], truth).summary.values()) == {0.0}
    with pytest.raises(ValueError):
        average_precision([[]], [[]])
    with pytest.raises(ValueError):
        average_precision([[Detection("cat", (0, 0, 1, 1), np.nan)]], [[Detection("cat", (0, 0, 1, 1))]])


# --- masks ---


def masks(predictions: list[np.ndarray], references: list[np.ndarray]) -> Scores:
    return mask_scores([overlap(p, r) for p, r in zip(predictions, references, strict=True)])


def _mask(width: int) -> np.ndarray:
    mask = np.zeros((10, 100), dtype=bool)
    mask[0, :width] = True
    return mask


def test_miou_and_oiou_differ_and_thresholds_include_their_value() -> None:
    scores = masks([_mask(5), _mask(90), _mask(0)], [_mask(10), _mask(100), _mask(0)])
    assert scores.per_sample["miou"] == [0.5, 0.9, 1.0]
    assert scores.summary == pytest.approx(
        {"miou": 0.8, "oiou": 95 / 110, "p@0.5": 1, "p@0.6": 2 / 3, "p@0.7": 2 / 3, "p@0.8": 2 / 3, "p@0.9": 2 / 3}
    )


def test_malformed_masks() -> None:
    with pytest.raises(ValueError, match="resize the prediction"):
        masks([_mask(1)[:5]], [_mask(1)])
    with pytest.raises(ValueError):
        masks([_mask(1).astype(np.uint8)], [_mask(1)])
    with pytest.raises(ValueError):
        masks([], [])


# --- retrieval ---


def test_recall_by_hand() -> None:
    # Two images; texts 0 and 1 belong to image 0, text 2 to image 1.
    similarity = np.array([[0.1, 0.9, 0.5], [0.2, 0.8, 0.4]])
    any_positive = retrieval(similarity, [0, 0, 1])
    assert any_positive.per_sample["img2txt_recall@1"] == [1, 0]
    assert any_positive.per_sample["txt2img_recall@1"] == [0, 1, 0]
    assert any_positive.summary["img2txt_recall@5"] == 1
    first_positive = retrieval(similarity, [0, 0, 1], positive="first")
    assert first_positive.per_sample["img2txt_recall@1"] == [0, 0]
    assert first_positive.per_sample["txt2img_recall@1"] == any_positive.per_sample["txt2img_recall@1"]


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_recall_equals_argsort_and_ignores_order(seed: int, images: int, captions: int) -> None:
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(images), captions)
    similarity = rng.normal(size=(images, len(owner)))
    scores = retrieval(similarity, owner.tolist()).summary
    for k in (1, 5, 10):
        top = np.argsort(-similarity, axis=1)[:, :k]
        assert scores[f"img2txt_recall@{k}"] == pytest.approx(
            (owner[top] == np.arange(images)[:, None]).any(1).mean()
        )
        top = np.argsort(-similarity.T, axis=1)[:, :k]
        assert scores[f"txt2img_recall@{k}"] == pytest.approx((top == owner[:, None]).any(1).mean())
    rows, columns = rng.permutation(images), rng.permutation(len(owner))
    moved = np.argsort(rows)[owner[columns]]
    assert retrieval(similarity[rows][:, columns], moved.tolist()).summary == pytest.approx(scores)
    assert set(retrieval((owner == np.arange(images)[:, None]) * 1.0, owner.tolist()).summary.values()) == {1.0}


DISTANCES = [  # of big_vision's own tests, four images and eight texts
    [0.8, 0.8, 0.1, 0.5, 0.1, 0.2, 0.5, 0.1],
    [0.5, 0.4, 0.0, 0.0, 0.4, 0.2, 0.6, 0.4],
    [0.5, 0.4, 0.1, 0.5, 0.0, 0.8, 0.8, 0.3],
    [0.5, 0.4, 0.1, 0.5, 0.4, 0.2, 0.3, 0.3],
]


def test_recall_on_the_cases_of_big_vision() -> None:
    """`image_text_retrieval_test.py`: what its evaluator gives, in both directions."""
    owner, distances = [0, 0, 1, 1, 2, 2, 3, 3], np.array(DISTANCES)
    scores = retrieval(-distances, owner).summary
    assert [scores[f"img2txt_recall@{k}"] for k in (1, 5, 10)] == [0.5, 0.75, 1.0]
    distances[0, 6] = 0.1
    scores = retrieval(-distances, owner).summary
    assert [scores[f"txt2img_recall@{k}"] for k in (1, 5, 10)] == [0.375, 1.0, 1.0]


def test_ties_count_against_the_model() -> None:
    assert retrieval(np.zeros((20, 20)), list(range(20))).summary["img2txt_recall@10"] == 0


def test_malformed_similarity() -> None:
    with pytest.raises(ValueError):
        retrieval(np.zeros((2, 3)), [0, 1])
    with pytest.raises(ValueError):
        retrieval(np.full((2, 2), np.nan), [0, 1])
    with pytest.raises(ValueError):
        retrieval(np.zeros((2, 2)), [0, 0])


# --- bootstrap ---


def test_bootstrap_matches_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(5, 2, size=400)
    low, high = bootstrap_interval(values.tolist())
    error = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - error, abs=0.04)
    assert high == pytest.approx(values.mean() + error, abs=0.04)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.randoms())
@settings(max_examples=30, deadline=None)
def test_bootstrap_is_seeded_bracketed_and_ignores_order(values: list[float], shuffle: random.Random) -> None:
    low, high = bootstrap_interval(values, resamples=50)
    assert (low, high) == bootstrap_interval(shuffle.sample(values, len(values)), resamples=50)
    slack = 1e-9
    assert min(values) - slack <= low <= high <= max(values) + slack


@pytest.mark.parametrize("right", [0, 1, 7, 20])
def test_shares_have_the_wilson_interval_of_scipy(right: int) -> None:
    theirs = binomtest(right, 20).proportion_ci(method="wilson")
    assert wilson_interval(right, 20) == pytest.approx((theirs.low, theirs.high))
    assert mean_interval([1.0] * right + [0.0] * (20 - right)) == wilson_interval(right, 20)


def test_two_right_answers_may_be_two_of_three() -> None:
    low, high = mean_interval([1.0, 1.0])
    assert low == pytest.approx(0.342, abs=1e-3)
    assert high == 1
    assert mean_interval([0.5, 1.0]) == bootstrap_interval([0.5, 1.0])


def test_bootstrap_of_equal_values_and_levels() -> None:
    assert bootstrap_interval([1.0, 1.0, 1.0]) == (1.0, 1.0)
    values = [0.0, 1.0] * 20
    wide, narrow = bootstrap_interval(values), bootstrap_interval(values, level=0.5)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "non-empty"),
        ([1.0, np.nan], {}, "finite"),
        ([1.0], {"level": 1.0}, "level"),
        ([1.0], {"resamples": 0}, "resamples"),
    ],
)
def test_malformed_bootstrap(values: list[float], options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, **options)  # type: ignore[arg-type]


def test_a_cluster_counts_once() -> None:
    rng = np.random.default_rng(2)
    rates = rng.uniform(0.8, 1, 30)  # of 30 pages, each seen at three sizes
    counts = [(100 * rate, 100.0) for rate in rates for _ in range(3)]
    pages = [str(number) for number in range(30) for _ in range(3)]
    low, high = cluster_interval(counts, pages)
    error = 1.96 * rates.std() / np.sqrt(30)
    assert low == pytest.approx(rates.mean() - error, abs=0.006)
    assert high == pytest.approx(rates.mean() + error, abs=0.006)
    single = cluster_interval(counts, [str(number) for number in range(90)])
    assert single[1] - single[0] < 0.75 * (high - low)


def test_the_interval_of_a_difference_is_paired_and_weighted_by_size() -> None:
    mine, theirs = [(9.0, 10.0), (0.0, 0.0), (800.0, 1000.0)], [(8.0, 10.0), (0.0, 0.0), (700.0, 1000.0)]
    low, high = cluster_interval(mine, ["a", "b", "c"], theirs)
    # 1 of 27 draws has no words at all, where both are perfect; in all others the difference is .1
    assert (low, high) == (0, pytest.approx(0.1))
    assert cluster_interval(mine, ["a", "b", "c"], mine) == (0, 0)


@pytest.mark.parametrize("clusters", [[], ["a", "b"]])
def test_each_sample_has_a_cluster(clusters: list[str]) -> None:
    with pytest.raises(ValueError, match="one cluster per sample"):
        cluster_interval([(1.0, 2.0)], clusters)
