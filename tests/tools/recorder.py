"""What smmu-wizard-record makes of many trees, in one process. Old Pythons run this too: no word is newer than 3.6.

python recorder.py ZIPAPP CASES: CASES is JSON, a list of command lines of `record`; prints JSON, a list of [exit status, standard error].
"""

import io
import json
import os
import sys


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    if sys.implementation.name == "pypy":  # as the recorder's own __main__ has it
        setattr(os, "O_PATH", getattr(os, "O_PATH", 0o10000000))  # noqa: B010
    from _command import parse  # type: ignore[import-not-found]

    from wizard.cli.main import main as run

    with open(sys.argv[2], encoding="utf-8") as file:
        cases = json.load(file)
    said = sys.stderr
    answers: "list[object]" = []
    for words in cases:
        sys.stderr = io.StringIO()
        status = run(words, parse)
        answers.append([status, sys.stderr.getvalue()])
    sys.stderr = said
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
