"""CLS-GAN as a classifier with few labels, against what it must beat   (Qi 2017, sec. 9.4, tables 2 and 3).

1. `balance` and `unlabeled_weight` are chosen by five-fold cross-validation on the labelled images of the first subset,
   over the paper's grids; the conditional GAN's `unlabeled_weight` likewise.
2. Every contender is trained on several labelled subsets (seeds), in the same networks (table 1, weight normalisation,
   no BatchNorm), with the same labels and the same number of rounds; accuracy on the test images after the last round.

The supervised network alone is the reference: what the others gain over it, they gain by their generator.
"""

from typing import Any, NamedTuple

from ganzoo.errors import UserError
from ganzoo.paper import Options, write_rows
from ganzoo.statistics import holm
from ganzoo_paper.comparison import Compared, compared, paired

BALANCES = (0.5, 1.0, 2.0)
WEIGHTS = (0.25, 0.5, 1.0, 2.0)
FOLDS = 5
MATCHING = 100
"""Weight of feature matching in every conditional game with a generator. The paper gives none; how this one was chosen:
benchmarks/README.md."""


class Protocol(NamedTuple):
    """One size of the experiment."""

    per_class: int
    subsets: int
    epochs: int
    choosing_epochs: int
    """Of the cross-validation's cells."""
    changes: dict[str, Any]
    """Of the plan: networks, batch, rates."""


def networks(critic_width: int, generator_width: int, init_std: float) -> dict[str, Any]:
    """The networks of table 1, so wide."""
    return {
        "critic": {"name": "table-1", "width": critic_width, "norm": "none", "weight_norm": True, "init_std": init_std},
        "generator": {"name": "table-1", "width": generator_width, "init_std": init_std},
    }


def rates(rate: float, decay_epochs: int) -> dict[str, Any]:
    return {
        "shared.critic_rate": rate,
        "shared.generator_rate": rate,
        "shared.decay": 0.8,
        "shared.decay_epochs": decay_epochs,
    }


def cls_gan(balance: float, weight: float) -> str:
    return f"cls-gan:balance={balance:g},unlabeled_weight={weight:g},feature_matching={MATCHING}"


def conditional_gan(weight: float) -> str:
    return f"conditional-gan:unlabeled_weight={weight:g},feature_matching={MATCHING}"


def run(options: Options, protocol: Protocol) -> str:
    """Choose, then compare; rows.jsonl holds the rows of both. Returns both tables and what came out."""
    plan = {
        "measure": "accuracy",
        "labels.per_class": protocol.per_class,
        "validation_images": 10_000,
        "test_images": 10_000,
        **protocol.changes,
    }
    grid = [cls_gan(b, w) for b in BALANCES for w in WEIGHTS]
    others = [conditional_gan(w) for w in WEIGHTS]
    chosen_from = compared(
        options,
        "cross-validation",
        **plan,
        **{"labels.folds": FOLDS},
        objectives=[*grid, *others],
        seeds=1,
        epochs=protocol.choosing_epochs,
        validate_every=protocol.choosing_epochs,
    )
    cls, conditional = best(chosen_from, grid), best(chosen_from, others)
    balance = cls.split("balance=")[1].split(",")[0]
    labelled_only = f"cls-gan:balance={balance},feature_matching={MATCHING}"
    final = compared(
        options,
        "comparison",
        **plan,
        objectives=["supervised", cls, labelled_only, conditional, "dcgan"],
        seeds=protocol.subsets,
        epochs=protocol.epochs,
        validate_every=protocol.epochs,
    )
    write_rows(options.folder, [*chosen_from.rows, *final.rows])
    return "\n".join([
        f"Chosen by {FOLDS}-fold cross-validation on the {10 * protocol.per_class} labelled images of one subset:",
        f"  {cls}",
        f"  {conditional}",
        "",
        final.table,
        *verdicts(final, cls, conditional),
    ])  # fmt: skip


def best(found: Compared, labels: list[str]) -> str:
    """The label of the greatest mean accuracy over the folds; of equals, the first.

    Every fold or none: a mean over the lucky ones would flatter who diverges. UserError where nobody finished.
    """
    accuracies: dict[str, float] = {}
    for label in labels:
        folds = [row for row in found.rows if row["label"] == label]
        if folds and all(row["verdict"] == "done" for row in folds):
            accuracies[label] = sum(row["validation_accuracy"] for row in folds) / len(folds)
    if not accuracies:
        objective = labels[0].partition(":")[0]
        raise UserError(f"no setting of {objective} finished its cross-validation; see {found.folder / 'table.txt'}")
    return max(accuracies, key=lambda label: accuracies[label])


def verdicts(final: Compared, cls: str, conditional: str) -> list[str]:
    """What came out against the paper's claims, from the rows; the tests are corrected for there being three."""
    claims = {
        "the generator helps: CLS-GAN beats the supervised network alone": "supervised",
        "CLS-GAN beats the conditional GAN": conditional,
        "CLS-GAN beats DCGAN's features with an L2-SVM": "dcgan",
    }
    found = {claim: paired(final.rows, "test_accuracy", cls, other) for claim, other in claims.items()}
    known = {claim: d for claim, d in found.items() if d is not None}
    corrected = dict(zip(known, holm([d.p for d in known.values()]), strict=True))
    said = []
    for claim, d in found.items():
        if d is None:
            said.append(f"{claim}: not known, no subset of both finished.")
            continue
        within = "" if d.interval is None else f", 95 % interval {d.interval.low:+.4f} to {d.interval.high:+.4f}"
        verdict = "not decided" if corrected[claim] >= 0.05 else "confirmed" if d.mean > 0 else "contradicted"
        pairs = f"{d.pairs} subset{'s' * (d.pairs > 1)}"
        p = f"sign-flip p = {d.p:.4f}, {corrected[claim]:.4f} after Holm over the claims"
        said.append(f"{claim}: {verdict} ({d.mean:+.4f}{within}; {p}, {pairs}).")
    return said
