// A directory passed through by fuse-native (libfuse 2), the library that Node users would pick: SOURCE DIRECTORY.
import { close, fstat, fsync, lstat, mkdir, open, read, readdir, rmdir, truncate, unlink, write } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const Fuse = createRequire(import.meta.url)("fuse-native");
const [, , source, directory] = process.argv;
const at = (path) => join(source, path);
const O_ACCMODE = 3;

/** Its callbacks take a negative errno first. */
const answer = (done) => (error, value) => done(error ? error.errno : 0, value);
/** Those of read and write take the count alone. */
const counted = (done) => (error, count) => done(error ? error.errno : count);

const fuse = new Fuse(
  directory,
  {
    getattr: (path, done) => lstat(at(path), answer(done)),
    fgetattr: (_path, fd, done) => fstat(fd, answer(done)),
    readdir: (path, done) => readdir(at(path), answer(done)),
    open: (path, flags, done) => open(at(path), flags & O_ACCMODE, answer(done)),
    create: (path, mode, done) => open(at(path), "w+", mode, answer(done)),
    read: (_path, fd, buffer, length, offset, done) => read(fd, buffer, 0, length, offset, counted(done)),
    write: (_path, fd, buffer, length, offset, done) => write(fd, buffer, 0, length, offset, counted(done)),
    fsync: (_path, _dataOnly, fd, done) => fsync(fd, answer(done)),
    release: (_path, fd, done) => close(fd, answer(done)),
    truncate: (path, size, done) => truncate(at(path), size, answer(done)),
    unlink: (path, done) => unlink(at(path), answer(done)),
    mkdir: (path, mode, done) => mkdir(at(path), mode, answer(done)),
    rmdir: (path, done) => rmdir(at(path), answer(done)),
    utimens: (_path, _atime, _mtime, done) => done(0),
    chmod: (_path, _mode, done) => done(0),
    chown: (_path, _uid, _gid, done) => done(0),
  },
  { force: true, bigWrites: true },
);
fuse.mount((error) => {
  if (error) throw error;
});
