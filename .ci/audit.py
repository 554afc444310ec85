"""Vulnerabilities of the pinned packages, by pip-audit; those that a newer version mends fail.

    python .ci/audit.py [REPORT]     (pip-audit --format json, if it has been made already)

What has no fix is told and does not fail; where no list of vulnerabilities can be reached, that is
said, and nothing is claimed.
"""

import json
import subprocess
import sys
from pathlib import Path

PINNED = Path(__file__).parent.parent / "constraints.txt"


def asked():
    words = ["-m", "pip_audit", "--format", "json", "--no-deps", "--disable-pip", "-r", PINNED]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    return done.stdout or f'{{"dependencies": [], "error": {json.dumps(done.stderr[-300:])}}}'


def main():
    report = json.loads(Path(sys.argv[1]).read_text() if sys.argv[1:] else asked())
    looked_at = [d for d in report["dependencies"] if "vulns" in d]
    found = [(d["name"], d["version"], v) for d in looked_at for v in d["vulns"]]
    for name, version, v in found:
        fix = ", ".join(v["fix_versions"]) or "no fix yet"
        print(f"{name} {version}: {v['id']}, mended in: {fix}")
    skipped = len(report["dependencies"]) - len(looked_at)
    print(f"audit: {len(looked_at)} packages looked at, {skipped} not, {len(found)} entries")
    if not looked_at:
        print("audit: no list of vulnerabilities could be reached", report.get("error", ""))
    sys.exit(any(v["fix_versions"] for _, _, v in found))


if __name__ == "__main__":
    main()
