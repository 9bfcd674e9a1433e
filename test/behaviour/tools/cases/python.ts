/** Python: its own ways to write files, and the libraries that keep arrays, tables and model weights in them. */
import type { ToolCase } from "../tool-case.ts";

export const PYTHON: readonly ToolCase[] = [
  {
    name: "python open modes w, x, a, r+, w+",
    needs: [],
    python: `
for mode, text in (("w", "one"), ("x", "two"), ("a", "three"), ("w+", "four")):
    with open(mode, mode) as file: file.write(text)
with open("a", "a") as file: file.write(" more")
seal()
assert [read(m) for m in ("w", "x", "a", "w+")] == [b"one", b"two", b"three more", b"four"]
with open("w", "r+") as file:
    assert file.read() == "one"; file.seek(0); file.write("ONE")
with open("x", "w+") as file:
    file.write("longer than before"); file.seek(0); assert file.read() == "longer than before"
seal()
assert read("w") == b"ONE" and read("x") == b"longer than before"`,
  },
  {
    name: "python open mode x on an existing file",
    needs: [],
    python: `
write("f", b"here"); seal()
outcome(lambda: open("f", "x"))
assert read("f") == b"here"`,
    outcome: "EEXIST",
    elsewhere: "EEXIST",
  },
  {
    name: "python os.replace",
    needs: [],
    python: `
write("f", b"old"); seal()
for content in (b"new", b"newer"):
    with open("f.tmp", "wb") as file:
        file.write(content); file.flush(); os.fsync(file.fileno())
    os.replace("f.tmp", "f")
    assert read("f") == content and os.listdir() == ["f"]
seal(); assert read("f") == b"newer"`,
  },
  {
    name: "python tempfile and shutil",
    needs: [],
    python: `
import shutil, tempfile
with tempfile.NamedTemporaryFile(dir=".") as file:
    file.write(b"x" * 100000); file.flush(); assert os.path.getsize(file.name) == 100000
shutil.copytree(IN + "/tree", "tree", symlinks=True); shutil.copy2(IN + "/one", "one"); seal()
assert read("one") == read(IN + "/one") and os.stat("one").st_mtime_ns == os.stat(IN + "/one").st_mtime_ns
shutil.move("one", "tree/one"); shutil.copyfile("tree/one", "again"); assert read("again") == read(IN + "/one")
shutil.rmtree("tree"); assert os.listdir() == ["again"]`,
  },
  {
    name: "python mmap of a new file",
    needs: [],
    python: `
import mmap
with open("f", "w+b") as file:
    file.truncate(3 << 20)
    with mmap.mmap(file.fileno(), 0) as area:
        area[:5] = b"start"; area[-3:] = b"end"; area[1 << 20] = 7
        area.flush()
        assert area[:5] == b"start"
data = read("f"); assert len(data) == 3 << 20 and data[:5] == b"start" and data[-3:] == b"end" and data[1 << 20] == 7
seal(); assert read("f") == data`,
  },
  {
    name: "python mmap of a sealed file",
    needs: [],
    python: `
import mmap
write("f", read(IN + "/one")); seal()
with open("f", "r+b") as file, mmap.mmap(file.fileno(), 0) as area:
    area[4096:8192] = b"y" * 4096; area.flush()
    with open("f", "rb") as other: other.seek(4096); assert other.read(4096) == b"y" * 4096
with open("f", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as area:
    assert area[:4096] == read(IN + "/one")[:4096] and area[4096:8192] == b"y" * 4096`,
  },
  {
    name: "python bytes of a mapped file after its end",
    needs: [],
    python: `
import ctypes, mmap
write("f", b"z" * 5000); seal()
with open("f", "rb") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as area:
    view = (ctypes.c_char * 5000).from_buffer(area)
    page = ctypes.string_at(ctypes.addressof(view), 8192); del view
    assert page == b"z" * 5000 + bytes(8192 - 5000)`,
    note: "bytes after the end of the last page are zero",
  },
  {
    name: "python positional and vectored I/O",
    needs: [],
    python: `
f = os.open("f", os.O_RDWR | os.O_CREAT)
assert os.pwritev(f, [b"a" * 10, b"b" * 20], 5) == 30 and os.pwrite(f, b"c", 100) == 1
assert os.preadv(f, [bytearray(4), bytearray(4)], 3) == 8 and os.fstat(f).st_size == 101
os.ftruncate(f, 50); os.ftruncate(f, 60); assert os.pread(f, 100, 30) == b"b" * 5 + bytes(25)
os.close(f); seal(); assert os.path.getsize("f") == 60`,
  },
  {
    name: "python with 1,500 open files",
    needs: [],
    python: `
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
files = [open(f"f{i}", "w+") for i in range(1500)]
for i, file in enumerate(files): file.write(str(i)); file.flush()
for i, file in enumerate(files): file.seek(0); assert file.read() == str(i)
for file in files: file.close()
seal(); assert sorted(int(read(f"f{i}")) for i in range(1500)) == list(range(1500))`,
  },
  {
    name: "numpy save and load",
    needs: ["python:numpy"],
    python: `
import numpy
array = numpy.arange(300000, dtype=numpy.float32).reshape(300, 1000)
numpy.save("a.npy", array); numpy.savez("b.npz", x=array, y=array.T); numpy.savez_compressed("c.npz", x=array)
seal()
assert (numpy.load("a.npy") == array).all() and (numpy.load("a.npy", mmap_mode="r") == array).all()
assert (numpy.load("b.npz")["y"] == array.T).all() and (numpy.load("c.npz")["x"] == array).all()
array.tofile("raw"); assert (numpy.fromfile("raw", numpy.float32) == array.ravel()).all()`,
  },
  {
    name: "numpy memmap w+ and r+",
    needs: ["python:numpy"],
    python: `
import numpy
area = numpy.memmap("m", dtype=numpy.int64, mode="w+", shape=(512, 1024))
area[:] = numpy.arange(512 * 1024).reshape(512, 1024); area.flush(); del area; seal()
area = numpy.memmap("m", dtype=numpy.int64, mode="r+", shape=(512, 1024))
assert area[511, 1023] == 512 * 1024 - 1; area[7] *= -1; area.flush(); del area
area = numpy.memmap("m", dtype=numpy.int64, mode="r", shape=(512, 1024))
assert area[7, 3] == -(7 * 1024 + 3) and area[8, 3] == 8 * 1024 + 3
new = numpy.lib.format.open_memmap("n.npy", mode="w+", dtype=numpy.uint8, shape=(10, 10)); new[:] = 9; del new
seal(); assert (numpy.load("n.npy") == 9).all()`,
  },
  {
    name: "safetensors save and load",
    needs: ["python:safetensors", "python:numpy"],
    python: `
import numpy
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
tensors = {f"layer.{i}.weight": numpy.full((64, 512), i, numpy.float32) for i in range(20)}
save_file(tensors, "model.safetensors", metadata={"format": "np"}); seal()
loaded = load_file("model.safetensors")
assert loaded.keys() == tensors.keys() and all((loaded[k] == tensors[k]).all() for k in tensors)
with safe_open("model.safetensors", framework="numpy") as file:
    assert file.metadata() == {"format": "np"} and file.get_slice("layer.3.weight")[1:2].sum() == 3 * 512
save_file({"only": numpy.ones(3)}, "model.safetensors"); assert list(load_file("model.safetensors")) == ["only"]`,
  },
  {
    name: "huggingface_hub snapshot into a local directory",
    needs: ["python:huggingface_hub"],
    python: `
import hub
files = {"config.json": b"{}", "model-00001-of-00001.safetensors": read(IN + "/one"),
         "a/rather/deep/directory/of/adapters/" + "l" * 60 + "/adapter_model.bin": read(IN + "/small")}
with hub.serving(files) as download:
    download("model"); seal()
    download("model")  # finds everything there
    for name, data in files.items(): assert read("model/" + name) == data, name
    metadata = [os.path.join(d, f) for d, _, fs in os.walk("model/.cache") for f in fs if f.endswith(".metadata")]
    assert len(metadata) == len(files), metadata
    files["config.json"] = b'{"changed": 1}'; download("model", revision="b"); assert read("model/config.json") == files["config.json"]
seal(); assert read("model/config.json") == files["config.json"]`,
    note: "its temporary names are longer than the format's 80 bytes",
  },
  {
    name: "huggingface_hub cache with its symlinks",
    needs: ["python:huggingface_hub"],
    python: `
import hub
files = {"config.json": b"{}", "model.safetensors": read(IN + "/one")}
with hub.serving(files) as download:
    path = download(None, cache_dir=os.path.abspath("cache")); seal()
    assert download(None, cache_dir=os.path.abspath("cache")) == path
    assert os.path.islink(path + "/model.safetensors") and read(path + "/model.safetensors") == files["model.safetensors"]`,
  },
  {
    name: "pyarrow parquet, feather and IPC",
    needs: ["python:pyarrow"],
    python: `
import pyarrow, pyarrow.dataset, pyarrow.feather, pyarrow.parquet
table = pyarrow.table({"k": list(range(50000)), "v": [str(i % 97) for i in range(50000)]})
pyarrow.parquet.write_table(table, "t.parquet"); pyarrow.feather.write_feather(table, "t.feather", compression="uncompressed")
pyarrow.dataset.write_dataset(table, "set", format="parquet", partitioning=["v"], max_partitions=100)
with pyarrow.OSFile("t.arrow", "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer: writer.write_table(table)
seal()
assert pyarrow.parquet.read_table("t.parquet", memory_map=True).equals(table)
assert pyarrow.feather.read_table("t.feather", memory_map=True).equals(table)
with pyarrow.memory_map("t.arrow") as source: assert pyarrow.ipc.open_file(source).read_all().equals(table)
assert pyarrow.dataset.dataset("set", format="parquet", partitioning=["v"]).count_rows() == 50000`,
  },
  {
    name: "pyarrow memory map that it creates",
    needs: ["python:pyarrow"],
    python: `
import pyarrow
with pyarrow.create_memory_map("m", 1 << 20) as area: area.write(b"arrow"); area.seek(1 << 19); area.write(b"half")
seal()
with pyarrow.memory_map("m", "r+") as area: area.seek(1 << 19); assert area.read(4) == b"half"; area.seek(0); area.write(b"ARROW")
assert read("m")[:5] == b"ARROW" and os.path.getsize("m") == 1 << 20`,
  },
  {
    name: "h5py",
    needs: ["python:h5py"],
    python: `
import h5py, numpy
data = numpy.arange(200000, dtype=numpy.int32).reshape(200, 1000)
with h5py.File("f.h5", "w") as file:
    file["plain"] = data; file.create_dataset("packed", data=data, chunks=(20, 100), compression="gzip"); file.attrs["n"] = 1
seal()
with h5py.File("f.h5", "r") as file: assert (file["plain"][:] == data).all() and (file["packed"][:] == data).all()
with h5py.File("f.h5", "r+") as file: file["plain"][5] = -1
with h5py.File("f.h5", "r") as file: assert (file["plain"][5] == -1).all() and (file["plain"][6] == data[6]).all()`,
    note: "a sealed file may be changed in place",
  },
  {
    name: "zarr",
    needs: ["python:zarr"],
    python: `
import numpy, zarr
array = zarr.create_array("z.zarr", shape=(200, 200), chunks=(50, 50), dtype="f8"); array[:] = numpy.eye(200); seal()
array = zarr.open_array("z.zarr", mode="r+"); assert (array[:] == numpy.eye(200)).all()
array[10:20] = 3.0; array.resize((250, 200)); array[240] = 5.0; seal()
array = zarr.open_array("z.zarr", mode="r"); assert (array[15] == 3).all() and (array[240] == 5).all() and array[100, 100] == 1`,
  },
  {
    name: "lmdb",
    needs: ["python:lmdb"],
    python: `
import lmdb
with lmdb.open("db", map_size=8 << 20, max_dbs=2) as env:
    with env.begin(write=True) as txn:
        for i in range(5000): txn.put(b"key-%d" % i, b"value-%d" % (i * i))
    with env.begin() as txn: assert txn.get(b"key-77") == b"value-5929" and txn.stat()["entries"] == 5000
seal()
with lmdb.open("db", readonly=True, max_dbs=2) as env, env.begin() as txn: assert txn.get(b"key-4999") == b"value-24990001"`,
  },
  {
    name: "lmdb with a writable map, written again later",
    needs: ["python:lmdb"],
    python: `
import lmdb
options = dict(map_size=8 << 20, writemap=True, subdir=False)
for round in range(3):
    with lmdb.open("db", **options) as env:
        with env.begin(write=True) as txn:
            for i in range(1000): txn.put(b"%d-%d" % (round, i), os.urandom(100))
    seal()
with lmdb.open("db", readonly=True, **options) as env, env.begin() as txn: assert txn.stat()["entries"] == 3000
assert os.path.getsize("db") == 8 << 20`,
    note: "its size is fixed from the start",
  },
  {
    name: "node fs",
    needs: ["node"],
    bash: `
      node -e '
        const fs = require("node:fs"), a = require("node:assert");
        fs.writeFileSync("f", "one", { flush: true }); fs.appendFileSync("f", " two"); a.equal(fs.readFileSync("f", "utf8"), "one two");
        fs.cpSync(process.env.IN + "/tree", "tree", { recursive: true, verbatimSymlinks: true }); fs.renameSync("tree/a.txt", "g");
        fs.copyFileSync("f", "h"); fs.rmSync("tree", { recursive: true }); a.deepEqual(fs.readdirSync(".").sort(), ["f", "g", "h"]);
        const w = fs.createWriteStream("s"); for (let i = 0; i < 1000; i++) w.write("x".repeat(1000)); w.end(() => a.equal(fs.statSync("s").size, 1e6));'
      seal; equal "$(< h)" "one two"; equal "$(stat -c %s s)" 1000000`,
  },
];
