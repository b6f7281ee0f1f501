"""Where a run comes from: versions, commit, device, command, hashes."""

from ganzoo.errors import printable
from ganzoo.report.page.run_folder import RunFolder


def origin_of(run: RunFolder) -> list[tuple[str, list[tuple[str, str]]]]:
    """Groups of (what, value), all of them text."""
    known = run.provenance
    versions = known.get("versions")
    groups = [
        ("Run", [
            *((what, known.get(key)) for what, key in (
                ("command", "command"), ("started", "started"), ("device", "device"), ("commit", "commit"),
                ("format of the folder", "format"))),
            ("plan", f"sha256 {run.plan.sha256}"),
        ]),
        ("Versions", list(versions.items()) if isinstance(versions, dict) else []),
    ]  # fmt: skip
    first = next((row for row in run.rows if row["verdict"] == "done"), None)
    if first is not None:
        groups.append(("Where the numbers were made", list(first["fingerprint"].items())))
        groups.append((f"Hashes (sha256), seed {first['seed']}, shared by all objectives of a seed", [
            (name, value) for name, value in first["hashes"].items()
        ]))  # fmt: skip
        sources = {where: digest for row in run.rows for where, digest in row["sources"].items()}
        groups.append(("Code of the plugins (sha256)", sorted(sources.items())))
        if run.plan.measure == "mre":
            groups.append(
                ("How MRE is measured", [("test", first["mre"]), ("validation", first.get("validation_mre_protocol"))])
            )
    others = {str(row["provenance"].get("command")) for row in run.rows if row["verdict"] == "done"}
    if len(others) > 1:
        groups.append(("Trained by several commands", [(str(i), one) for i, one in enumerate(sorted(others), 1)]))
    notes = dict.fromkeys(f"{row['label']}: {note}" for row in run.rows for note in row["notes"])
    if notes:
        groups.append(("Notes of the trainings", [(str(i), note) for i, note in enumerate(notes, 1)]))
    return [
        (
            printable(title),
            [(printable(what, 120), printable(value, 600)) for what, value in pairs if value is not None],
        )
        for title, pairs in groups
        if pairs
    ]
