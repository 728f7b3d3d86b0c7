# Sourced by script/demo and script/test: a Python environment, and a Docker daemon to build the lab in.

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $1"
    [ $# -lt 2 ] || say "hint: $2"
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# A Python that kbpg runs on; its name on standard output.
find_python() {
    for python in python3 python3.13 python3.12 python3.11; do
        if command -v "$python" > /dev/null 2>&1 &&
            "$python" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2> /dev/null; then
            echo "$python"
            return
        fi
    done
    die "no Python 3.11 or newer" "apt-get install python3 python3-venv"
}

# Make .venv and install what LOCK pins, unless that was done before.
make_venv() {
    lock=$1
    stamp=.venv/$(basename "$lock").installed
    cmp -s "$lock" "$stamp" && return
    python=$(find_python)
    if ! [ -x .venv/bin/pip ]; then
        say "making .venv"
        "$python" -m venv .venv 2> /dev/null || {
            as_root apt-get install -y -q python3-venv > /dev/null && "$python" -m venv .venv
        } || die "cannot make a virtual environment" "apt-get install python3-venv"
    fi
    say "installing the packages of $lock"
    .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement "$lock"
    .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
    .venv/bin/python -m compileall -q src # also where the environment keeps Python from doing so at run time
    cp "$lock" "$stamp"
}

docker_answers() { docker version > /dev/null 2>&1; }

# Docker: installed if it is missing, started if it does not answer. A daemon started here goes on running.
need_docker() {
    docker_answers && return
    if ! command -v dockerd > /dev/null 2>&1; then
        command -v apt-get > /dev/null 2>&1 || die "Docker is missing" "install Docker, then run this again"
        say "installing Docker"
        as_root apt-get update -q > /dev/null || die "apt-get update failed"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
            docker.io iptables > /dev/null || die "Docker could not be installed" "apt-get install docker.io"
        command -v docker > /dev/null 2>&1 || as_root apt-get install -y -q docker-cli > /dev/null
    fi
    docker_answers && return
    say "starting the Docker daemon"
    if [ -d /run/systemd/system ]; then
        as_root systemctl start docker
    else
        log=${TMPDIR:-/tmp}/kbpg-dockerd.log
        as_root sh -c 'exec setsid nohup dockerd > "$0" 2>&1 < /dev/null &' "$log"
    fi
    tries=0
    until docker_answers; do
        tries=$((tries + 1))
        [ "$tries" -le 150 ] || die "Docker does not answer after 30 s" "look at ${log:-journalctl -u docker}"
        sleep 0.2
    done
}
