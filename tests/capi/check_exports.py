"""What libshrinkwarp_c exports is what shrinkwarp.h declares, and nothing else.

    check_exports.py LIBRARY HEADER
"""

import re
import subprocess
import sys

library, header = sys.argv[1:]
table = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
symbols = [line.split()[1:] for line in table.splitlines()]
exported = {name.split("@")[0] for kind, name in symbols if kind != "A"}
versions = {name for kind, name in symbols if kind == "A"}
with open(header) as text:
    declared = set(re.findall(r"^SHRINKWARP_API [^(]*?(\w+)\(", text.read(), re.MULTILINE))

assert len(declared) > 20, declared
assert exported == declared, f"only exported: {exported - declared}; only declared: {declared - exported}"
assert versions == {"SHRINKWARP_C_1"}, versions
assert all(name.endswith("@@SHRINKWARP_C_1") for kind, name in symbols if kind != "A"), symbols
dynamic = subprocess.run(["readelf", "-d", library], check=True, capture_output=True, text=True).stdout
assert "soname: [libshrinkwarp_c.so.1]" in dynamic, dynamic
