/** The shell and the small programs around it. */
import type { ToolCase } from "../tool-case.ts";

export const SHELL: readonly ToolCase[] = [
  {
    name: "> on a new and an old file",
    needs: [],
    bash: `
      echo first > f; equal "$(< f)" first; seal
      echo second and longer > f; equal "$(< f)" "second and longer"; seal; equal "$(< f)" "second and longer"
      : > f; equal "$(stat -c %s f)" 0; seal; equal "$(stat -c %s f)" 0`,
  },
  {
    name: ">> on a new file",
    needs: [],
    bash: `
      for i in 1 2 3 4 5; do echo line $i >> f; done
      equal "$(wc -l < f)" 5; seal; equal "$(tail -1 f)" "line 5"`,
    note: "until it seals: sealDelay after its last close",
  },
  {
    name: "(cat a; cat b) > f",
    needs: ["cat"],
    bash: `
      (cat $IN/one; cat $IN/small) > f; cat $IN/one $IN/small | cmp - f
      seal; cat $IN/one $IN/small | cmp - f`,
    note: "each cat that exits flushes its copy of the descriptor",
  },
  {
    name: "a log that is kept open",
    needs: ["sleep"],
    bash: `
      exec 3> log; echo one >&3; sleep 2.5; echo two >&3; seal; echo three >&3; exec 3>&-
      seal; equal "$(paste -sd, log)" one,two,three`,
    note: "an open file that declared no size stays unsealed",
  },
  {
    name: "tee to several files",
    needs: ["tee"],
    bash: `
      tee a b c < $IN/one > /dev/null; for f in a b c; do same $IN/one $f; done
      seal; for f in a b c; do same $IN/one $f; done`,
  },
  {
    name: "dd with seek",
    needs: ["dd"],
    bash: `
      dd if=$IN/one of=f bs=1M seek=3 count=1 status=none
      equal "$(stat -c %s f)" 4194304; cmp <(dd if=f bs=1M skip=3 status=none) $IN/one
      cmp -n 3145728 f /dev/zero; seal; cmp -n 3145728 f /dev/zero; cmp <(tail -c 1048576 f) $IN/one`,
    note: "dd declares the size, then writes",
  },
  {
    name: "dd in place",
    needs: ["dd"],
    bash: `
      cat $IN/one $IN/two > f; seal
      dd if=$IN/two of=f bs=64k conv=notrunc status=none; cat $IN/two $IN/two | cmp - f
      dd if=$IN/one of=f bs=1M seek=1 conv=notrunc,fsync status=none; cat $IN/two $IN/one | cmp - f`,
  },
  {
    name: "dd with direct I/O",
    needs: ["dd"],
    bash: `
      dd if=$IN/one of=f bs=128k oflag=direct status=none; same $IN/one f; seal
      dd if=f bs=64k iflag=direct status=none | cmp - $IN/one`,
  },
  {
    name: "touch",
    needs: ["touch"],
    bash: `
      touch -d '2001-02-03 04:05:06.789' f; equal "$(stat -c %.9Y f)" 981173106.789000000
      seal; equal "$(stat -c %.9Y f)" 981173106.789000000; equal "$(stat -c %s f)" 0
      touch -d '2011-12-13 14:15:16' f; seal; equal "$(stat -c %Y f)" 1323785716
      before=$(date +%s); touch f; (( $(stat -c %Y f) >= before - 1 ))`,
  },
  {
    name: "mktemp",
    needs: ["mktemp"],
    bash: `
      f=$(mktemp -p . XXXXXXXXXX); d=$(mktemp -d -p .)
      equal "$(stat -c %a $f)" 600; equal "$(stat -c %a $d)" 700
      echo x > $f; mv $f $d/g; seal; equal "$(< $d/g)" x`,
  },
  {
    name: "sed -i",
    needs: ["sed"],
    bash: `
      cp $IN/text f; chmod 640 f; seal
      sed -i 's/line/LINE/; 1i first' f; sed 's/line/LINE/; 1i first' $IN/text | cmp - f
      equal "$(stat -c %a f)" 640; seal; equal "$(head -1 f)" first; equal "$(ls -A)" f`,
  },
  {
    name: "split and cat",
    needs: ["split", "cat"],
    bash: `
      split -b 100k $IN/one part-; cat part-* | cmp - $IN/one; equal "$(ls | wc -l)" 11
      seal; cat part-* > whole; same $IN/one whole`,
  },
  {
    name: "patch",
    needs: ["patch", "diff"],
    bash: `
      cp $IN/text f; seal; sed 5d $IN/text > $SCRATCH/new; diff -u $IN/text $SCRATCH/new > change || true
      patch -s f change; same $SCRATCH/new f; patch -sR f change; same $IN/text f`,
  },
  {
    name: "mkdir -p and rmdir -p",
    needs: ["mkdir", "rmdir"],
    bash: `
      d=$(printf 'level-%s/' {1..30}); mkdir -p $d; mkdir -p $d; echo deep > $d/f; seal
      equal "$(cat $d/f)" deep; equal "$(find . -type d | wc -l)" 31
      rm $d/f; rmdir -p $d; equal "$(ls -A)" ""`,
    note: "paths longer than the format's 80 bytes",
  },
  {
    name: "ln -s",
    needs: ["ln", "readlink"],
    bash: `
      cp -r $IN/tree tree; ln -s tree/a.txt file; ln -s tree dir; ln -s nowhere broken; ln -sfn tree/sub dir
      check() { same file tree/a.txt; [[ -d dir/ && -L broken && ! -e broken ]]; equal "$(readlink dir)" tree/sub; }
      check; seal; check
      long=$(printf 'x%.0s' {1..460}); ln -s $long long; seal; equal "$(readlink long)" $long
      rm tree/a.txt; [[ ! -e file ]]`,
  },
  {
    name: "long and odd names",
    needs: ["ls"],
    bash: `
      long=$(printf 'n%.0s' {1..255}); echo 1 > $long; mkdir d-$\{long:2}; echo 2 > d-$\{long:2}/$long
      odd=$'tab\\tnew\\nline \\xff\\xfe "quote" *?'; echo 3 > "$odd"; echo 4 > 'größe-文件'; echo 5 > ' .'; seal
      equal "$(< $long)" 1; equal "$(< d-$\{long:2}/$long)" 2; equal "$(< "$odd")" 3; equal "$(< größe-文件)" 4
      equal "$(< ' .')" 5; equal "$(find . -mindepth 1 -print0 | tr -dc '\\0' | wc -c)" 6`,
  },
  {
    name: "a name of 256 bytes",
    needs: ["touch"],
    bash: `refused touch $(printf 'n%.0s' {1..256})`,
    outcome: "ENAMETOOLONG",
    elsewhere: "ENAMETOOLONG",
  },
  {
    name: "chmod, chown and their persistence",
    needs: ["chmod", "chown"],
    allUsers: true,
    bash: `
      echo x > f; mkdir d; chown 1234:2345 f; chmod 4751 f; chown 33:44 d; chmod 2770 d
      check() { equal "$(stat -c '%a %u %g' f)" "$1"; equal "$(stat -c '%a %u %g' d)" "2770 33 44"; }
      check "4751 1234 2345"; seal; check "4751 1234 2345"
      chmod 600 f; check "600 1234 2345"; chown 7:8 f; seal; check "600 7 8"`,
  },
  {
    name: "permission bits bind other users",
    needs: ["setpriv"],
    allUsers: true,
    bash: `
      echo secret > f; chmod 600 f; echo public > g; seal
      equal "$(setpriv --reuid 65534 --regid 65534 --clear-groups cat g)" public
      refused setpriv --reuid 65534 --regid 65534 --clear-groups cat f`,
    outcome: "EACCES",
    elsewhere: "EACCES",
  },
  {
    name: "find and du",
    needs: ["find", "du", "diff"],
    bash: `
      cp -r $IN/tree tree; seal
      diff <(cd tree && find . -type f -size -2M | sort) <(cd $IN/tree && find . -type f -size -2M | sort)
      bytes() { find "$1" -type f -printf '%s\\n' | awk '{ n += $1 } END { print n }'; }
      equal "$(bytes tree)" "$(bytes $IN/tree)"; (( $(du -s -B1 tree | cut -f1) >= $(bytes tree) ))`,
  },
  {
    name: "df",
    needs: ["df", "fallocate"],
    bash: `
      free() { df -B1 --output=avail . | tail -1; }
      inodes() { df --output=iavail . | tail -1; }
      # What earlier cases removed may still be coming back.
      before=$(free); until now=$before; sleep 0.5; before=$(free); (( now == before )); do :; done
      sync .; before=$(free); fallocate -l 200M f; sync .; used=$((before - $(free)))
      (( used >= 200 << 20 && used <= 210 << 20 ))
      files=$(inodes); for i in {1..10}; do echo x > small-$i; done; sync .; (( files - $(inodes) >= 10 )); rm small-*
      rm f; for _ in {1..50}; do (( before - $(free) <= 8 << 20 )) && exit; sleep 0.1; done
      echo "space of the removed file did not come back" >&2; exit 1`,
    note: "space of a removed file comes back when nobody holds it",
  },
  {
    name: "2,000 files in a directory",
    needs: ["ls"],
    bash: `
      for i in {1..2000}; do echo $i > file-$i; done; equal "$(ls | wc -l)" 2000; seal
      equal "$(cat file-* | sort -n | md5sum)" "$(seq 2000 | md5sum)"
      rm file-1???; equal "$(ls | wc -l)" 1000; equal "$(< file-2000)" 2000`,
  },
  {
    name: "an open file that was removed",
    needs: ["rm"],
    bash: `
      cp $IN/one f; seal; exec 3< f; rm f; cp $IN/two f; cmp - $IN/one <&3; exec 3<&-; same $IN/two f
      exec 4<> g; rm g; echo lives >&4; equal "$(< /proc/self/fd/4)" lives; exec 4>&-; seal; equal "$(ls)" f`,
  },
  {
    name: "flock",
    needs: ["flock"],
    bash: `
      exec 3> lock; flock 3; ! flock -n lock true; flock -u 3; flock -n lock true`,
    note: "locks are per node",
  },
  {
    name: "gcc, make and running the program",
    needs: ["cc", "make"],
    bash: `
      printf 'int answer(void) { return 42; }\\n' > lib.c
      printf '#include <stdio.h>\\nint answer(void);\\nint main(void) { printf("%%d\\\\n", answer()); return 0; }\\n' > main.c
      printf 'all: main\\nlibanswer.so: lib.c\\n\\tcc -shared -fPIC -o $@ $<\\nmain: main.c libanswer.so\\n\\tcc -o $@ main.c -L. -lanswer -Wl,-rpath,\\047$$ORIGIN\\047\\n' > Makefile
      make -s; equal "$(./main)" 42; seal; equal "$(./main)" 42; make -q
      sed -i s/42/43/ lib.c; make -s; equal "$(./main)" 43; seal; equal "$(./main)" 43`,
  },
  {
    name: "a script that runs from the volume",
    needs: [],
    bash: `printf '#!/bin/sh\\necho ran $1\\n' > s; chmod +x s; equal "$(./s a)" "ran a"; seal; equal "$(./s b)" "ran b"`,
  },
  {
    name: "sqlite with a rollback journal",
    needs: ["sqlite3"],
    bash: `
      sqlite3 db "pragma journal_mode = delete; create table t (k integer primary key, v text);
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) insert into t select i, hex(randomblob(40)) from n;
        begin; delete from t where k % 2; rollback; update t set v = upper(v);" > $SCRATCH/out
      seal; equal "$(sqlite3 db 'pragma integrity_check; select count(*) from t')" $'ok\\n5000'
      sqlite3 db "update t set v = replace(v, 'A', 'B')"; seal
      equal "$(sqlite3 db "pragma integrity_check; select count(*) from t where v like '%A%'")" $'ok\\n0'
      equal "$(ls)" db`,
    note: "a sealed database may be changed as long as it does not grow",
  },
  {
    name: "sqlite with a write-ahead log",
    needs: ["sqlite3"],
    bash: `
      sqlite3 db "pragma journal_mode = wal; create table t (v); insert into t values (1), (2);
        begin; insert into t values (3); commit; update t set v = v * 10;" > $SCRATCH/out
      equal "$(head -1 $SCRATCH/out)" wal; seal
      equal "$(sqlite3 db 'pragma integrity_check; select sum(v) from t')" $'ok\\n60'`,
    note: "while no program dies that has it open: the next one resizes the index it left, EPERM",
  },
  {
    name: "sqlite with a write-ahead log, kept open and grown",
    needs: ["sqlite3"],
    python: `
import sqlite3
db = sqlite3.connect("db", isolation_level=None)
db.execute("pragma journal_mode = wal"); db.execute("create table t (v)"); db.execute("insert into t values (1)")
assert db.execute("pragma wal_checkpoint").fetchone()[0] == 0 # truncates the database to the size it has
seal(); before = os.stat("db").st_size
for _ in range(3):
    db.execute("insert into t values (randomblob(1 << 20))")
    busy, logged, moved = db.execute("pragma wal_checkpoint").fetchone(); assert (busy, logged) == (0, moved)
assert os.stat("db").st_size >= before + (3 << 20)
assert db.execute("pragma integrity_check").fetchone() == ("ok",); db.close()`,
    note: "a size that makes a file no longer does not seal it while it is open",
  },
  {
    name: "fallocate of a new file",
    needs: ["fallocate", "dd"],
    bash: `
      fallocate -l 5M f; equal "$(stat -c %s f)" 5242880; cmp -n 5242880 f /dev/zero
      seal; dd if=$IN/one of=f bs=1M seek=4 conv=notrunc status=none; cmp <(tail -c 1M f) $IN/one
      touch g; fallocate -n -l 5M g; equal "$(stat -c %s g)" 0; dd if=$IN/one of=g conv=notrunc status=none; same $IN/one g`,
  },
];
