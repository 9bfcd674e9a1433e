# Read by every bash case before its own lines. $IN holds the inputs (inputs.ts), $PYTHON the tests' Python.
set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C TZ=UTC GIT_CONFIG_NOSYSTEM=1 HOME=$SCRATCH
umask 022

# Seals everything below here: on famfs, fsync of a directory seals what is in it.
seal() { find "${1:-.}" -type d -exec sync {} +; }

# Prints mode, owner, size, modification time, kind and name of all below $1, in one order.
attributes() { (cd "$1" && find . -mindepth 1 -printf '%m %U:%G %Ts %y %l %P %s\n' | sed -E '/ d /s/ [0-9]+$//' | sort -k 6); }

same() { cmp -- "$1" "$2"; }
same_tree() { diff -r --no-dereference -- "$1" "$2"; }
equal() { [[ $1 == "$2" ]] || { printf 'got "%s", expected "%s"\n' "$1" "$2" >&2; return 1; }; }

# Runs a command that must fail and reports the errno whose text its message ends with.
refused() {
  local message
  if message=$("$@" 2>&1); then
    echo "outcome: works"
    return 0
  fi
  case $message in
  *"Operation not permitted"*) echo "outcome: EPERM" ;;
  *"File too large"*) echo "outcome: EFBIG" ;;
  *"File exists"*) echo "outcome: EEXIST" ;;
  *"File name too long"*) echo "outcome: ENAMETOOLONG" ;;
  *"Permission denied"*) echo "outcome: EACCES" ;;
  *"Operation not supported"*) echo "outcome: ENOTSUP" ;;
  *"No space left"*) echo "outcome: ENOSPC" ;;
  *) printf 'unexpected message: %s\n' "$message" >&2; return 1 ;;
  esac
}
