"""What `check` and `fix` cost, held against the goals and against other linters.

    python -m bench.check --into ~/bench

downloads the corpus, installs session-guard and its peers in environments of their own, and writes
docs/performance.md. All that is compared takes turns. Nothing of the corpus is installed or run.
Linux only; run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from bench import cases, page, peers
from bench.cases import OURS, RULE, Bench
from bench.projects import lay_application, read_corpus, unpack
from tests.field.measure import read_labels

ROOT = Path(__file__).parents[1]
APPLICATION = ("agno", "aegra-api")
RUNS = 5
MOST_LINES = 1_000_000
FEW = ("fastapi-tenancy", "starlette-admin")
"""What the slow peers run on: projects with labels of what is compared."""


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    folder = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "session-guard-bench"
    )
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--into", type=Path, default=folder, help="where all is kept; not in a git repository")
    add("--page", type=Path, default=ROOT / "docs/performance.md", help="what is written")
    add("--runs", type=int, default=RUNS, help="of each command; 0 is one, not warmed up")
    add("--peers", nargs="*", metavar="NAME", help="compare with these alone")
    add("--projects", nargs="+", metavar="NAME", help="of the corpus, these alone")
    add("--application", nargs="+", metavar="NAME", default=APPLICATION, help="what it is made of")
    add("--most-lines", type=int, default=MOST_LINES, help="of what is made up; up to 10000000")
    add("--here", action="store_true", help="measure what is installed here; install nothing")
    return parser.parse_args()


def main() -> None:
    """Measure all cases, and write the page."""
    options = parse_arguments()
    into, corpus = options.into.resolve(), read_corpus()
    chosen = {name: corpus[name] for name in options.projects or corpus}
    unpack({*chosen.values(), *(corpus[name] for name in options.application)}, into / "projects")
    programs, reasons = peers.install(into / "environments", options.peers)
    python = Path(sys.executable) if options.here else install_ours(into / "environments" / OURS)
    bench = Bench(into, python, programs, reasons, options.runs, options.most_lines)
    application = into / "made" / "application"
    lay_application([corpus[name] for name in options.application], bench.projects, application)
    load_before = os.getloadavg()[0]

    shown = "a part of the corpus" if options.projects else "the corpus"
    cases.corpus(bench, list(chosen.values()), shown)
    cases.application(bench, application)
    imported = cases.few_files(bench)
    cases.fixes(bench)
    grown = cases.growth(bench)
    labels = read_labels()
    labelled = [name for name in chosen if any(at[2] == RULE for at in labels.get(name, ()))]
    quick = [peer for peer in bench.peers() if not peer.is_slow]
    findings = cases.findings(bench, labelled, quick)
    findings += cases.findings(bench, [name for name in labelled if name in FEW], bench.peers())

    slow = [peer.name for peer in bench.peers() if peer.is_slow]
    notes = [f"{' and '.join(slow)} are slow, and run once on {len(FEW)} projects."] if slow else []
    if options.projects:
        notes.append(f"**Cut**: of the corpus, these alone were measured: {', '.join(chosen)}.")
    if options.most_lines < MOST_LINES:
        notes.append(
            f"**Cut**: nothing that is made up has more than {options.most_lines:,} lines."
        )
    if options.runs < RUNS:
        notes.append(f"**Cut**: fewer than {RUNS} runs.")
    if options.peers is not None:
        notes.append("**Cut**: not all peers were to be compared.")
    text = page.render(
        bench,
        [bench.projects / requirement for requirement in chosen.values()],
        {" and ".join(options.application): application},
        load_before,
        grown,
        imported,
        findings,
        notes,
    )
    options.page.write_text(text)


def install_ours(folder: Path) -> Path:
    """Install session-guard from this tree into an environment; return its Python.

    Raises subprocess.CalledProcessError.
    """
    shutil.rmtree(folder, ignore_errors=True)
    peers.make_environment(folder, str(ROOT))
    return folder / "bin" / "python"


if __name__ == "__main__":
    main()
