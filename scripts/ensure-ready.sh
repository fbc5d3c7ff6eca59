# Sourced by the other scripts; `root` is set. No Python starts while nothing changed: `cat`, `readlink` and `cmp`.

# What decides whether .venv is up to date: where it stands (its scripts hold absolute paths), what it is made of, and
# in the stamp also which interpreter it got: a system that moves from Python 3.12 to 3.13 empties it silently.
requirement_files="pyproject.toml requirements/*.txt scripts/setup.py infra/gitune/engine/toolchain.txt
    infra/gitune/engine/modules/*/go.*"

print_fingerprint() {
    printf '%s\n' "$root"
    (cd "$root" && cat $requirement_files)
}

print_stamp() {
    print_fingerprint
    readlink -f "$root/.venv/bin/python"
}

# `ensure_ready base`: every command; `local`: training on this machine too; `dev`: tests and linters too.
ensure_ready() {
    if [ -x "$root/.venv/bin/python" ] && print_stamp | cmp -s - "$root/.venv/.gitune-ready-$1"; then
        return
    fi
    for python in "${GITUNE_PYTHON:-python3.13}" python3.12 python3.11 python3; do
        # A name on PATH may be a shim of a version that is not there: only running it tells.
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            print_fingerprint | "$python" "$root/scripts/setup.py" "$1"
            return
        fi
    done
    echo "error: gitune needs Python 3.11 or newer, and none is on PATH" >&2
    echo "hint: install Python 3.11 or newer, or name one: GITUNE_PYTHON=/path/to/python scripts/gitune" >&2
    exit 1
}
