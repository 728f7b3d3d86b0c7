# Sourced by script/demo and script/test: a Python environment, a Docker daemon to build the lab in, programs of tests.

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $1"
    [ $# -lt 2 ] || say "hint: $2"
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

has_systemd() { [ -d /run/systemd/system ]; }

# Install packages by apt, its lists read once before: images often have none. A list that cannot be read is no end
# yet, the package may be known from before.
apt_install() {
    command -v apt-get > /dev/null 2>&1 || return 1
    if [ -z "${apt_lists_read:-}" ]; then
        as_root apt-get update -q > /dev/null || say "apt-get update failed"
        apt_lists_read=1
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" > /dev/null
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
            apt_install python3-venv && "$python" -m venv .venv
        } || die "cannot make a virtual environment" "apt-get install python3-venv"
    fi
    say "installing the packages of $lock"
    .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement "$lock"
    .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
    .venv/bin/python -m compileall -q src # also where the environment keeps Python from doing so at run time
    cp "$lock" "$stamp"
}

# Whether the Docker daemon answers this user. Waiting is no use to one whom it refuses, unless they are in its group:
# a daemon that starts makes its socket first, and gives it to the group then.
docker_answers() {
    docker_says=$(docker version 2>&1) && return
    case $docker_says in
        *"permission denied"*)
            case " $(id -nG) " in *" docker "*) return 1 ;; esac
            me=$(id -un)
            die "Docker refuses user $me, who is neither root nor in group docker" \
                "run this as root, or: sudo usermod -aG docker $me, and log in again"
            ;;
    esac
    return 1
}

# Docker: installed if it is missing, started if it does not answer. A daemon started here goes on running.
need_docker() {
    docker_answers && return
    if ! command -v dockerd > /dev/null 2>&1; then
        command -v apt-get > /dev/null 2>&1 || die "Docker is missing" "install Docker, then run this again"
        say "installing Docker"
        apt_install docker.io iptables || die "Docker could not be installed" "apt-get install docker.io"
        command -v docker > /dev/null 2>&1 || apt_install docker-cli ||
            die "Docker's client could not be installed" "apt-get install docker-cli"
    fi
    docker_answers && return
    say "starting the Docker daemon"
    if has_systemd; then
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

has_sshd() { command -v sshd > /dev/null 2>&1 || [ -x /usr/sbin/sshd ] || [ -x /usr/local/sbin/sshd ]; }

# What some tests skip without: an SSH server (tests/contract, which run as root alone) and Chromium (the pages of the
# reports). Installed by apt; where that fails it is said, and those tests are skipped.
# No SSH server with systemd, where it would listen from now on, at every start: that is not for a test to decide.
# Elsewhere, as in a container, policy-rc.d keeps it from being started; the tests start their own.
need_test_programs() {
    if [ "$(id -u)" -eq 0 ] && ! has_sshd; then
        if has_systemd; then
            say "no SSH server here, and none is installed unasked: tests/contract will be skipped"
        else
            say "installing an SSH server for tests/contract"
            install_unstarted openssh-server || say "no openssh-server: tests/contract will be skipped"
        fi
    fi
    for browser in chromium chromium-browser google-chrome; do
        ! command -v "$browser" > /dev/null 2>&1 || return 0
    done
    say "installing Chromium for the tests of the reports' pages"
    apt_install chromium || say "no chromium: the tests of the reports' pages will be skipped"
}

# Install packages without starting their services: invoke-rc.d asks this program, and 101 means no (its manual).
POLICY=/usr/sbin/policy-rc.d
install_unstarted() {
    if [ -e "$POLICY" ]; then
        apt_install "$@"
        return
    fi
    trap 'rm -f "$POLICY"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' > "$POLICY"
    chmod 755 "$POLICY"
    status=0
    apt_install "$@" || status=$?
    rm -f "$POLICY"
    trap - EXIT INT TERM
    return "$status"
}
