"""The allocator of the GNU C library can be told to share its arenas; of others it is said that they cannot."""

import platform
import subprocess
import sys

TOLD = "from equipoise.pipeline.allocator import few_arenas; print(few_arenas())"


def test_it_says_whether_the_allocator_could_be_told():
    done = subprocess.run([sys.executable, "-c", TOLD], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == str(platform.libc_ver()[0] == "glibc")
