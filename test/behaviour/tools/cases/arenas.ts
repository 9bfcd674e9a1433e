/** Memory that several processes share: the programs are compiled from programs/. */
import type { ToolCase } from "../tool-case.ts";

export const ARENAS: readonly ToolCase[] = [
  {
    name: "an arena that stays open",
    needs: ["cc"],
    bash: `cc -O1 -Wall -o $SCRATCH/arena $PROGRAMS/arena.c; $SCRATCH/arena arena; seal; equal "$(stat -c %s arena)" 16777216`,
    note: "create, ftruncate, mmap, keep open; others map it meanwhile",
  },
  {
    name: "a plasma-style arena",
    needs: ["cc"],
    bash: `cc -O1 -Wall -o $SCRATCH/plasma $PROGRAMS/plasma.c; $SCRATCH/plasma .; equal "$(ls -A)" ""`,
    note: "create, unlink, ftruncate, mmap",
  },
  {
    name: "an arena of python multiprocessing",
    needs: [],
    python: `
import mmap, multiprocessing
def child(path, index):
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as area: area[index << 16] = index + 1
with open("arena", "w+b") as file: file.truncate(1 << 20)
seal()
workers = [multiprocessing.Process(target=child, args=("arena", i)) for i in range(4)]
for worker in workers: worker.start()
for worker in workers: worker.join(); assert worker.exitcode == 0
data = read("arena"); assert [data[i << 16] for i in range(4)] == [1, 2, 3, 4]`,
  },
];
