/** Programs that copy, move and unpack whole files and trees. */
import type { ToolCase } from "../tool-case.ts";

export const COPYING: readonly ToolCase[] = [
  {
    name: "cp of a file",
    needs: ["cp"],
    bash: `
      cp $IN/one copy; same $IN/one copy
      seal; same $IN/one copy`,
  },
  {
    name: "cp -r of a tree",
    needs: ["cp", "diff"],
    bash: `
      cp -r $IN/tree copy; same_tree $IN/tree copy
      seal; same_tree $IN/tree copy`,
  },
  {
    name: "cp -a of a tree",
    needs: ["cp", "diff", "find"],
    bash: `
      cp -a $IN/tree copy; same_tree $IN/tree copy
      equal "$(attributes copy)" "$(attributes $IN/tree)"
      seal
      same_tree $IN/tree copy; equal "$(attributes copy)" "$(attributes $IN/tree)"`,
    note: "modes, owners, times and symlinks are kept",
  },
  {
    name: "cp over an existing file",
    needs: ["cp"],
    bash: `
      cp $IN/one f; seal
      cp $IN/three f; same $IN/three f; seal; same $IN/three f
      cp $IN/small f; same $IN/small f; seal; same $IN/small f`,
    note: "O_TRUNC makes a new file that replaces the old one",
  },
  {
    name: "cp from one file of the volume to another",
    needs: ["cp"],
    bash: `
      cp $IN/one a; seal
      cp a b; same $IN/one b; seal; cp b c; same $IN/one c`,
  },
  {
    name: "mv of a new and of a sealed file",
    needs: ["mv"],
    bash: `
      cp $IN/one a; mv a b; [[ ! -e a ]]; same $IN/one b
      seal; mv b c; [[ ! -e b ]]; same $IN/one c
      seal; same $IN/one c; equal "$(ls)" c`,
  },
  {
    name: "mv over an existing file",
    needs: ["mv"],
    bash: `
      cp $IN/one a; cp $IN/two b; seal
      mv -f a b; same $IN/one b; equal "$(ls)" b
      cp $IN/small new; mv new b; same $IN/small b
      seal; same $IN/small b; equal "$(ls)" b`,
  },
  {
    name: "mv of a directory",
    needs: ["mv", "diff"],
    bash: `
      cp -r $IN/tree a; mv a b; same_tree $IN/tree b
      seal; mkdir into; mv b into/c; same_tree $IN/tree into/c
      seal; same_tree $IN/tree into/c; equal "$(ls)" into`,
  },
  {
    name: "mv from another file system",
    needs: ["mv", "diff", "find"],
    bash: `
      cp -a $IN/tree $SCRATCH/tree; mv $SCRATCH/tree moved
      same_tree $IN/tree moved; equal "$(attributes moved)" "$(attributes $IN/tree)"
      seal; equal "$(attributes moved)" "$(attributes $IN/tree)"`,
  },
  {
    name: "rm -r",
    needs: ["rm"],
    bash: `
      cp -r $IN/tree sealed; seal; cp -r $IN/tree fresh
      rm -r sealed fresh; equal "$(ls -A)" ""
      mkdir sealed; equal "$(ls -A sealed)" ""`,
  },
  {
    name: "install",
    needs: ["install"],
    bash: `
      install -D -m 640 $IN/small deep/er/f; equal "$(stat -c %a deep/er/f)" 640; same $IN/small deep/er/f
      seal; install -m 755 $IN/one deep/er/f; equal "$(stat -c %a deep/er/f)" 755; same $IN/one deep/er/f
      seal deep; same $IN/one deep/er/f; equal "$(stat -c %a deep/er/f)" 755`,
  },
  {
    name: "tar, twice over",
    needs: ["tar", "diff", "find"],
    bash: `
      tar -C $IN -cf $SCRATCH/tree.tar tree
      tar -xpf $SCRATCH/tree.tar; same_tree $IN/tree tree; seal
      tar -xpf $SCRATCH/tree.tar; same_tree $IN/tree tree
      equal "$(attributes tree)" "$(attributes $IN/tree)"
      seal; same_tree $IN/tree tree; equal "$(attributes tree)" "$(attributes $IN/tree)"`,
  },
  {
    name: "tar of a tree on the volume into the volume",
    needs: ["tar", "gzip"],
    bash: `
      cp -a $IN/tree tree; seal
      tar -czf tree.tar.gz tree; seal; mkdir out
      tar -xpzf tree.tar.gz -C out; same_tree $IN/tree out/tree
      tar -df tree.tar.gz`,
  },
  {
    name: "zip and unzip",
    needs: ["zip", "unzip", "diff"],
    bash: `
      (cd $IN && zip -qry - tree) > tree.zip; seal
      unzip -q tree.zip; same_tree $IN/tree tree
      zip -q tree.zip tree/a.txt; unzip -tq tree.zip`,
    note: "zip writes a new archive beside the old one",
  },
  {
    name: "gzip and xz",
    needs: ["gzip", "xz"],
    bash: `
      cp $IN/text text; gzip text; [[ ! -e text ]]; gunzip text.gz; same $IN/text text
      seal; xz -T1 text; seal; xz -d text.xz; same $IN/text text`,
  },
  {
    name: "rsync, twice",
    needs: ["rsync", "diff", "find"],
    bash: `
      rsync -a $IN/tree/ copy/; same_tree $IN/tree copy; seal
      equal "$(rsync -ai $IN/tree/ copy/)" ""
      cp -a $IN/tree $SCRATCH/tree; cp $IN/three $SCRATCH/tree/sub/b.bin; rm $SCRATCH/tree/a.txt
      rsync -a --delete $SCRATCH/tree/ copy/; same_tree $SCRATCH/tree copy
      seal; equal "$(rsync -ai --delete $SCRATCH/tree/ copy/)" ""
      equal "$(attributes copy)" "$(attributes $SCRATCH/tree)"`,
    note: "the second run finds nothing to do",
  },
  {
    name: "rsync --inplace of the same size",
    needs: ["rsync"],
    bash: `
      cp $IN/one f; seal
      rsync --inplace --no-whole-file --ignore-times $IN/two f; same $IN/two f
      seal; same $IN/two f`,
  },
  {
    name: "rclone copy and check",
    needs: ["rclone"],
    bash: `
      export RCLONE_CONFIG=$SCRATCH/rclone.conf; touch $RCLONE_CONFIG
      rclone copy --links --create-empty-src-dirs $IN/tree copy; same_tree $IN/tree copy; seal; same_tree $IN/tree copy
      rclone copy $IN/plain plain; seal; rclone check $IN/plain plain 2> $SCRATCH/log || { cat $SCRATCH/log >&2; false; }
      rclone copy $IN/plain plain -v 2>&1 | { ! grep -i 'copied ('; }
      rclone sync --links $IN/plain copy; same_tree $IN/plain copy`,
  },
  {
    name: "curl -o",
    needs: ["curl"],
    bash: `
      $PYTHON -u -m http.server --bind 127.0.0.1 --directory $IN 0 > $SCRATCH/port 2>/dev/null &
      server=$!; trap 'kill $server' EXIT
      for _ in {1..100}; do port=$(grep -oP 'port \\K[0-9]+' $SCRATCH/port) && break; sleep 0.1; done
      curl -sSf -o f http://127.0.0.1:$port/one; same $IN/one f; seal
      curl -sSf -o f http://127.0.0.1:$port/three; same $IN/three f; seal; same $IN/three f`,
  },
  {
    name: "git clone",
    needs: ["git", "diff"],
    bash: `
      git config --global user.name T; git config --global user.email t@example.org
      git config --global core.logAllRefUpdates false
      git init -q -b main origin; cp -a $IN/tree/. origin; git -C origin add -A; git -C origin commit -qm one
      git -C origin gc -q; seal
      git clone -q origin clone; seal
      git -C clone fsck --strict; equal "$(git -C clone status --porcelain)" ""
      echo more > clone/more; git -C clone add more; git -C clone commit -qm two; git -C clone push -q origin HEAD:next
      seal; equal "$(git -C origin log --format=%s next)" $'two\\none'
      git -C origin fsck --strict; git -C clone checkout -q HEAD~1; [[ ! -e clone/more ]]`,
    note: "and commit, push and checkout, with core.logAllRefUpdates=false",
  },
];
