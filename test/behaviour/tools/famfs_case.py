"""Helpers of the Python cases. The working directory is the case's own; IN holds the inputs (inputs.ts)."""

import errno
import os

IN = os.environ["IN"]
SCRATCH = os.environ["SCRATCH"]


def seal(top="."):
    """Seals everything below `top`: on famfs, fsync of a directory seals what is in it."""
    for directory, _, _ in os.walk(top):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def outcome(step):
    """Reports what the step answers: an errno's name, or that it works."""
    try:
        step()
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, str(error))
        print("outcome:", {"EOPNOTSUPP": "ENOTSUP"}.get(name, name))
    else:
        print("outcome: works")
