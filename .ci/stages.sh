# The parts that .ci/run and .ci/long share: stages with their seconds, tools, one closing
# line. Sourced by them, from the top of the tree.

current=start
began=$SECONDS
stages=0
notices=()
# The stages named on the command line; without names, all of them.
wanted=("$@")

# Runs a command as a named stage. It is called plainly, so that `set -e` holds in it.
stage() {
    [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $1 "* ]] || return 0
    current=$1
    began=$SECONDS
    shift
    echo "== $current"
    "$@"
    stages=$((stages + 1))
    echo "== $current: ok ($((SECONDS - began)) s)"
}

# Prints a text that must not be overlooked, at once and again at the end.
notice() {
    local bar='!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!'
    printf '%s\n!! %s\n%s\n' "$bar" "$1" "$bar"
    notices+=("$1")
}

finish() {
    local status=$? text
    for text in ${notices[@]+"${notices[@]}"}; do
        echo "!! $text"
    done
    if [ "$status" -ne 0 ]; then
        echo "== $current: FAILED with status $status ($((SECONDS - began)) s)"
        echo "stages: $stages passed, 1 failed"
    else
        echo "everything took $SECONDS s"
        echo "stages: $stages passed, 0 failed"
        if [ "$stages" -lt ${#wanted[@]} ]; then
            echo "not all of these are stages: ${wanted[*]}"
            exit 2
        fi
    fi
}
trap finish EXIT

# need PROGRAM PACKAGE: installs a program that a fresh machine may lack.
need() {
    command -v "$1" >/dev/null && return
    echo "installing $2"
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$2" >/dev/null
}

tools() {
    command -v cargo >/dev/null || { echo 'no cargo: install Rust, 1.88 or later'; return 1; }
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
    need cc gcc
    need git git
    need python3 python3
    need valgrind valgrind
    need perl perl
    need pgrep procps
    rustc --version
    python3 --version
    cargo fetch --locked --quiet
}

# or_left_out TEXT COMMAND...: with status 77 a script says that it could not run here,
# which is reported and does not fail the stage.
or_left_out() {
    local text=$1 status=0
    shift
    "$@" || status=$?
    case $status in
        0) ;;
        77) notice "$text" ;;
        *) return "$status" ;;
    esac
}

# deny [--build]: a part that could not be checked here is reported.
deny() {
    local status=0
    .ci/deny "$@" || status=$?
    case $status in
        0) ;;
        77) notice 'DENY LEFT OUT: no cargo-deny could be installed; licences and sources were not checked' ;;
        78) notice 'ADVISORIES LEFT OUT: their database cannot be reached; known vulnerabilities were not looked for' ;;
        *) return "$status" ;;
    esac
}

autobahn() {
    or_left_out 'AUTOBAHN LEFT OUT: no Python 2.7 found; the framing was not held against it' \
        tests/autobahn/run
}
