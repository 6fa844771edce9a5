#!/usr/bin/python3
"""Writes the inputs that the fuzz targets start from to corpus/, beside this file: good files, and the ways in which they
are broken. The same bytes every time; files of another origin in corpus/ stay. It needs NumPy and xxhash."""

import io
import pathlib
import struct
import zipfile

import numpy as np
import xxhash

HERE = pathlib.Path(__file__).parent
DATE = (1980, 1, 1, 0, 0, 0)


def put(target, name, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def npy(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), version=version)
    return file.getvalue()


def header(text, version=1, length=None):
    text = text if isinstance(text, bytes) else text.encode()
    size = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + size.to_bytes(2 if version == 1 else 4, "little") + text


def described(descr="'<f4'", order="False", shape="(3, 4)"):
    return "{'descr': %s, 'fortran_order': %s, 'shape': %s, }" % (descr, order, shape)


# ---- .npy: good ----

matrix = np.arange(12, dtype="<f4").reshape(3, 4)
good = {
    "f4": matrix,
    "f4_fortran": np.asfortranarray(matrix),
    "f8": matrix.astype("<f8"),
    "f8_fortran": np.asfortranarray(matrix.astype("<f8")),
    "f8_special": np.array([[np.nan, np.inf, -np.inf, -0.0], [5e-324, 1e300, 1e-46, 3e38]]),
    "f4_wide_fortran": np.asfortranarray(np.arange(34 * 37, dtype="<f4").reshape(34, 37) / 8),
    "f8_tall": np.arange(65 * 17, dtype="<f8").reshape(65, 17) / 3,
    "vector_f4": np.arange(5, dtype="<f4"),
    "vector_f8": np.arange(5, dtype="<f8") / 7,
    "no_rows": np.zeros((0, 4), "<f4"),
    "no_columns": np.zeros((3, 0), "<f8"),
    "single": np.array(2.5),
    "i4": np.arange(6, dtype="<i4"),
    "i8": np.arange(6, dtype="<i8").reshape(2, 3),
    "u1": np.arange(9, dtype="|u1"),
    "b1": np.array([True, False]),
    "text": np.array(b"csr"),
    "four_dimensions": np.zeros((2, 1, 3, 1), "<f4"),
}
for name, array in good.items():
    put("npy_file", name, npy(array))
for version in (2, 3):
    put("npy_file", f"version_{version}", npy(matrix, (version, 0)))
put("npy_file", "not_aligned", header(described()) + matrix.tobytes())

# ---- .npy: headers, good and bad ----

dicts = {
    "plain": described(),
    "padded": described() + " " * 57 + "\n",
    "other_quotes": '{"descr":"<f8","fortran_order":True,"shape":(3,4)}',
    "other_order": "{'shape': (7,), 'fortran_order': False, 'descr': '|b1'}",
    "empty_shape": described("'<i8'", shape="()"),
    "python_2": described(shape="(3L, 4L)"),
    "single_of_big_endian": described("'>u1'"),
    "strings": described("'|S17'", shape="()"),
    "many_dimensions": described(shape="(" + "1, " * 300 + ")"),
    "big_endian": described("'>f4'"),
    "structured": described("[('a', '<f4'), ('b', '<i8')]"),
    "objects": described("'|O'"),
    "strings_of_none": described("'|S0'"),
    "long_strings": described("'|S99999999999'"),
    "negative_size": described(shape="(-3, 4)"),
    "size_of_2_to_63": described(shape="(9223372036854775808,)"),
    "bytes_of_2_to_63": described("'<f8'", shape="(1152921504606846976,)"),
    "nothing_times_much": described(shape="(0, 4611686018427387904)"),
    "much_times_nothing": described(shape="(9223372036854775807, 0)"),
    "size_of_40_digits": described(shape="(1" + "0" * 40 + ",)"),
    "size_is_text": described(shape="('a',)"),
    "no_tuple": described(shape="(3)"),
    "no_list": described(shape="[3, 4]"),
    "two_commas": described(shape="(3,,4)"),
    "key_twice": "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (3,)}",
    "key_missing": "{'descr': '<f4', 'shape': (3,)}",
    "key_unknown": "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'x': 1}",
    "escape": "{'de\\x73cr': '<f4', 'fortran_order': False, 'shape': (3,)}",
    "falsehood": described(order="Falsehood"),
    "no_end": "{'descr': '<f4', 'fortran_order': False, 'shape': (3,",
    "no_quote": "{'descr: <f4",
    "more_after": described() + " 1",
    "list": "[1, 2, 3]",
    "nested": "(" * 100,
    "bytes": bytes(range(128, 256)),
    "nothing": "",
}
for name, text in dicts.items():
    put("npy_header", name, header(text))
    put("npy_file", "header_" + name, header(text))
for target in ("npy_header", "npy_file"):
    put(target, "empty", b"")
    put(target, "magic_only", b"\x93NUMPY")
    put(target, "version_9", header(described(), version=9))
    put(target, "version_2_of_4_gb", header(described(), version=2, length=2**32 - 1))
    put(target, "longer_than_the_file", header(described(), length=60000))
    put(target, "a_zip", b"PK\x03\x04" + bytes(26))
put("npy_header", "version_3", header(described(), version=3))
put("npy_file", "cut_short", npy(matrix)[:-1])
put("npy_file", "too_long", npy(matrix) + b"\0")

# ---- .npz ----


def archive(members, method=zipfile.ZIP_STORED, comment=b""):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as target:
        for name, data in members:
            target.writestr(zipfile.ZipInfo(name, DATE), data, method)
        target.comment = comment
    return file.getvalue()


def patched(data, at, text):
    at = at if at >= 0 else len(data) + at
    return data[:at] + text + data[at + len(text) :]


codes = [
    ("indices.npy", npy(np.array([1, 4, 2], "<i4"))),
    ("indptr.npy", npy(np.array([0, 2, 3], "<i4"))),
    ("format.npy", npy(np.array(b"csr"))),
    ("shape.npy", npy(np.array([2, 6], "<i8"))),
    ("data.npy", npy(np.array([0.5, -1.25, 3.0]))),
]
one = [("a.npy", npy(np.arange(3.0)))]
zeros = [("a.npy", npy(np.zeros(700)))]
for method, name in ((zipfile.ZIP_STORED, "stored"), (zipfile.ZIP_DEFLATED, "deflated")):
    put("npz", name, archive(codes, method))
    put("npz", name + "_one", archive(one, method))
    put("npz", name + "_notes", archive([("notes.txt", b"passed over")] + one, method))
    put("npz", name + "_nothing", archive([("a.npy", b"")], method))
    put("npz", name + "_no_npy", archive([("a.npy", b"text")], method))
    put("npz", name + "_too_long", archive([("a.npy", npy(np.arange(3.0)) + b"x")], method))
stored = archive(one)
deflated = archive(zeros, zipfile.ZIP_DEFLATED)
end = len(stored) - 22
entry = struct.unpack_from("<I", stored, end + 16)[0]
packed_entry = struct.unpack_from("<I", deflated, len(deflated) - 22 + 16)[0]
put("npz", "deflated_zeros", deflated)
put("npz", "comment", archive(one, comment=b"PK\x05\x06 looks like an end record"))
put("npz", "empty_archive", archive([]))
put("npz", "empty", b"")
put("npz", "two_of_one_name", archive([("a.npy", one[0][1]), ("b.npy", one[0][1])]).replace(b"b.npy", b"a.npy"))
put("npz", "cut_short", stored[:-1])
put("npz", "no_directory", stored[:entry])
put("npz", "wrong_checksum", patched(stored, entry + 16, b"\0\0\0\0"))
put("npz", "encrypted", patched(stored, entry + 8, b"\1\0"))
put("npz", "other_compression", patched(stored, entry + 10, b"\x0c\0"))
put("npz", "more_than_packed", patched(deflated, packed_entry + 24, b"\xff\xff\xff\x7f"))
for method, name in ((zipfile.ZIP_STORED, "stored"), (zipfile.ZIP_DEFLATED, "deflated")):
    # Header and sizes agree on 800 MB; there are some hundred bytes.
    claim = header(described("'<f8'", shape="(100000000,)"))
    data = archive([("a.npy", claim + bytes(500))], method)
    place = struct.unpack_from("<I", data, len(data) - 22 + 16)[0]
    data = patched(data, place + 24, struct.pack("<I", len(claim) + 800_000_000))
    put("npz", name + "_claims_800_mb", data)
put("npz", "damaged_deflate", patched(deflated, 30 + 5 + 3, b"\xff"))
put("npz", "member_elsewhere", patched(stored, entry + 42, b"\x03\0\0\0"))
put("npz", "directory_elsewhere", patched(stored, end + 16, b"\x88\x13\0\0"))
put("npz", "wrong_count", patched(stored, end + 10, b"\2\0"))
put("npz", "several_disks", patched(stored, end + 4, b"\1\0"))


def zip64(data):
    """The archive of one member again, its sizes and places in zip64 records."""
    begin, count = entry, 1
    extra = struct.pack("<HHQQQ", 1, 24, *struct.unpack_from("<I", data, entry + 24), entry_size(data), 0)
    central = bytearray(data[entry:end])
    struct.pack_into("<II", central, 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<H", central, 30, len(extra))
    struct.pack_into("<I", central, 42, 0xFFFFFFFF)
    central += extra
    where = begin + len(central)
    last = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, len(central), begin)
    last += struct.pack("<IIQI", 0x07064B50, 0, where, 1)
    last += struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:begin] + bytes(central) + last


def entry_size(data):
    return struct.unpack_from("<I", data, entry + 20)[0]


large = zip64(stored)
put("npz", "zip64", large)
put("npz", "zip64_field_too_short", large.replace(struct.pack("<HH", 1, 24), struct.pack("<HH", 1, 23)))
put("npz", "zip64_end_elsewhere", patched(large, -22 - 20 + 8, b"\xff" * 8))
put("npz", "zip64_no_end", patched(large, -22 - 20 + 8, bytes(8)))

# ---- safetensors ----


def safetensors(text, data=b"", length=None):
    text = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype='"F32"', shape="[1]", offsets="[0,4]", name="w"):
    return '"%s":{"dtype":%s,"shape":%s,"data_offsets":%s}' % (name, dtype, shape, offsets)


four = bytes([0, 0, 128, 63])
two = tensor(name="a") + "," + tensor("\"I16\"", "[2,1]", "[4,8]", "b")
tensors = {
    "one": ("{" + tensor() + "}", four),
    "padded": ("{" + tensor() + "}   ", four),
    "two": ("{" + two + "}", 2 * four),
    "other_order": ("{" + tensor(offsets="[4,8]") + "," + tensor(name="v") + "}", 2 * four),
    "metadata": ('{"__metadata__":{"a":"b","\\u00e9":"\\ud83d\\ude00"},' + tensor() + "}", four),
    "metadata_only": ('{"__metadata__":{}}', b""),
    "no_tensors": ("{}", b""),
    "no_elements": ("{" + tensor(shape="[0,7]", offsets="[0,0]") + "}", b""),
    "single": ("{" + tensor('"F64"', "[]", "[0,8]") + "}", 2 * four),
    "bf16": ("{" + tensor('"BF16"', "[2]") + "}", four),
    "bool": ("{" + tensor('"BOOL"', "[4]") + "}", four),
    "spaces": ('{ "w" : { "shape" : [ 4 ],\n"data_offsets" : [ 0 , 4 ], "dtype" : "U8" } }', four),
    "strange_name": ("{" + tensor(name='\\"\\n\\u0000/\u00e9') + "}", four),
    "name_twice": ("{" + tensor() + "," + tensor(name="\\u0077") + "}", four),
    "metadata_twice": ('{"__metadata__":{},"__metadata__":{}}', b""),
    "metadata_of_numbers": ('{"__metadata__":{"a":1}}', b""),
    "unknown_dtype": ("{" + tensor('"F4"') + "}", four),
    "dtype_is_number": ("{" + tensor("32") + "}", four),
    "negative_size": ("{" + tensor(shape="[-1]") + "}", four),
    "size_is_float": ("{" + tensor(shape="[1.0]") + "}", four),
    "size_of_2_to_63": ("{" + tensor(shape="[9223372036854775808]") + "}", four),
    "bytes_of_2_to_64": ("{" + tensor('"U8"', "[4294967296,4294967296]", "[0,0]") + "}", b""),
    "claims_much": ("{" + tensor('"U8"', "[9223372036854775807]", "[0,9223372036854775807]") + "}", four),
    "three_offsets": ("{" + tensor(offsets="[0,4,8]") + "}", four),
    "offsets_backwards": ("{" + tensor(offsets="[4,0]") + "}", four),
    "overlap": ("{" + tensor(name="a") + "," + tensor(offsets="[2,6]") + "}", 2 * four),
    "hole": ("{" + tensor(name="a") + "," + tensor(offsets="[5,9]") + "}", 3 * four),
    "disagree": ("{" + tensor(shape="[2]") + "}", four),
    "cut_short": ("{" + tensor() + "}", four[:3]),
    "too_long": ("{" + tensor() + "}", four + b"x"),
    "no_shape": ('{"w":{"dtype":"F32","data_offsets":[0,4]}}', four),
    "unknown_key": ('{"w":{"x":1}}', b""),
    "no_end": ("{" + tensor(), four),
    "more_after": ("{}{}", b""),
    "zero_after": ("{}\0{", b""),
    "list": ("[]", b""),
    "byte_order_mark": ("\ufeff{}", b""),
    "no_utf_8": (b'{"\xff":{}}', b""),
    "nested_arrays": ('{"w":' + "[" * 3000, b""),
    "nested_objects": ('{"a":' * 3000, b""),
}
for name, (text, data) in tensors.items():
    put("safetensors", name, safetensors(text, data))
put("safetensors", "empty", b"")
put("safetensors", "short", b"\2\0\0")
put("safetensors", "longer_than_the_file", safetensors("{}", length=3))
put("safetensors", "header_of_2_to_64", safetensors("{}", length=2**64 - 1))

# ---- journals and their records ----


def journal(*payloads):
    data = b"shrinkwarp-jrn-1"
    for payload in payloads:
        length = struct.pack("<q", len(payload))
        data += length + struct.pack("<Q", xxhash.xxh3_64_intdigest(length + payload, seed=len(data))) + payload
    return data


def solved(index, atoms, values):
    head = struct.pack("<qQdddqii", index, 7, 0.5, 1.5, 1e-9, 25, len(atoms), 1)
    return head + struct.pack(f"<{len(atoms)}i{len(atoms)}d", *atoms, *values)


entries = [solved(0, [1, 3], [0.5, -0.25]), solved(7, [], []), solved(299, [49], [1e300])]
records = {
    "none": struct.pack("<q", 0),
    "three": struct.pack("<q", 3) + b"".join(entries),
    "more_claimed": struct.pack("<q", 4) + b"".join(entries),
    "less_claimed": struct.pack("<q", 2) + b"".join(entries),
    "many_claimed": struct.pack("<q", 2**62) + b"".join(entries),
    "other_problem": struct.pack("<q", 1) + solved(300, [], []),
    "other_atom": struct.pack("<q", 1) + solved(0, [50], [1.0]),
    "cut_short": struct.pack("<q", 1) + entries[0][:-1],
    "short": b"\1\0\0",
    "empty": b"",
}
for name, data in records.items():
    put("solve_record", name, data)
    put("journal", "record_" + name, journal(b"header", data))
whole = journal(b"header", records["three"], b"", records["none"])
put("journal", "empty", b"")
put("journal", "begun", journal())
put("journal", "begun_and_grown", journal() + bytes(16))
put("journal", "header_only", journal(b"header"))
put("journal", "four", whole)
put("journal", "cut_short", whole[:-1])
put("journal", "zeros_behind", whole + bytes(40))
put("journal", "damaged_in_the_middle", patched(whole, 80, b"\xff"))
put("journal", "damaged_header", patched(whole, 32, b"H"))
put("journal", "record_of_another_place", journal(b"header") + journal(b"other", b"one")[-19:])
put("journal", "long_record", journal(b"header") + struct.pack("<qQ", 2**62, 0))
put("journal", "negative_record", journal(b"header") + struct.pack("<qQ", -1, 0))
put("journal", "long_header", journal() + struct.pack("<qQ", 65537, 0) + bytes(64))
put("journal", "version_2", patched(whole, 15, b"2"))
put("journal", "other_file", b"begins with another magic")
