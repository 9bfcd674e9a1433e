/** A virtual machine that runs this checkout on the host's own files, with devdax memory that other guests share. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { firstMissing, type Missing, missingAllUsers, missingCommand, toolCache } from "../../support/prerequisites.ts";

const here = fileURLToPath(new URL(".", import.meta.url));

const kernel = /^kernel=(\S+)$/m.exec(readFileSync(join(here, "install-guest"), "utf8"))?.[1] ?? "";
const kernelFiles = join(toolCache, `guest-${kernel}`);

export function missingGuest(): Missing {
  return firstMissing(
    missingAllUsers(),
    ...["qemu-system-x86_64", "ndctl", "busybox", "setpriv", "secilc"].map((name) => missingCommand(name)),
    existsSync(join(kernelFiles, "vmlinuz"))
      ? false
      : `needs ${kernelFiles} (test/devdax/support/install-guest kernel)`,
  );
}

export interface GuestOptions {
  readonly name: string;
  /** Everything of this guest is below it; made here. */
  readonly directory: string;
  /** Where `compileCheckout` put the programs. */
  readonly programs: string;
  /** The file whose memory the guests share, and how much of it there is: its NVDIMM. */
  readonly memory?: { readonly path: string; readonly sizeBytes: number };
  /** SELinux instead of AppArmor, permissive and without a policy yet. */
  readonly seLinux?: true;
}

export interface Ended {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that runs in a guest. */
export interface Command {
  readonly ended: Promise<Ended>;
  said(): string;
  kill(signal: "TERM" | "KILL"): void;
}

const BOOT_MS = 120_000;
const BOOTS = 3;
const COMMAND_MS = 180_000;

export class Guest implements AsyncDisposable {
  readonly name: string;
  readonly bootMs: number;
  readonly #machine: Machine;
  readonly #programs: string;
  #commands = 0;

  private constructor({ name, programs }: GuestOptions, bootMs: number, machine: Machine) {
    this.name = name;
    this.#programs = programs;
    this.bootMs = bootMs;
    this.#machine = machine;
  }

  /** Resolves when it takes commands. */
  static async boot(options: GuestOptions): Promise<Guest> {
    for (let boot = 1; ; boot++) {
      const started = performance.now();
      const machine = new Machine(options);
      try {
        await machine.ready;
        return new Guest(options, performance.now() - started, machine);
      } catch (error) {
        await machine[Symbol.asyncDispose]();
        // Under emulation a processor now and then runs into code that the other one is just patching.
        if (boot === BOOTS || !machine.consoleText().includes("Oops: int3")) throw error;
      }
    }
  }

  start(script: string): Command {
    const number = ++this.#commands;
    const file = (suffix: string) => join(this.#machine.exchange, `${number}.${suffix}`);
    const read = (suffix: string) => (existsSync(file(suffix)) ? readFileSync(file(suffix), "utf8") : "");
    writeFileSync(file("command"), script);
    const ended = this.#machine.run(number).then((status) => ({
      status,
      stdout: read("stdout"),
      stderr: read("stderr"),
    }));
    return {
      ended,
      said: () => read("stdout") + read("stderr"),
      kill: (signal) => this.#machine.say(`kill ${number} ${signal}`),
    };
  }

  /** Runs a shell script to its end, whatever its status. */
  async try(script: string): Promise<Ended> {
    const command = this.start(script);
    const clock = AbortSignal.timeout(COMMAND_MS);
    const { promise: late, reject } = Promise.withResolvers<never>();
    const onLate = () => reject(new Error(`${this.name}: no end after ${COMMAND_MS} ms: ${script}\n${command.said()}`));
    clock.addEventListener("abort", onLate);
    try {
      return await Promise.race([command.ended, late]);
    } finally {
      clock.removeEventListener("abort", onLate);
    }
  }

  /** What it prints on standard output; any other status than 0 is an error. */
  async sh(script: string): Promise<string> {
    const { status, stdout, stderr } = await this.try(script);
    if (status !== 0) throw new Error(`${this.name}: status ${status} of: ${script}\n${stdout}${stderr}`);
    return stdout;
  }

  /** `famfs-csi ARGS` as a shell command. */
  famfs(args: string): string {
    return this.program("src/cli/main", args);
  }

  /** A program of the checkout as a shell command, on the checkout's Node. */
  program(name: string, args: string): string {
    return `NODE_COMPILE_CACHE=/tmp/compiled ${process.execPath} ${join(this.#programs, name)}.js ${args}`;
  }

  /** Loads the dax drivers and returns the device; the first guest makes the namespace, the others find it. */
  async devdax(): Promise<string> {
    const load = 'while read -r module; do busybox insmod "/run/modules/$module.ko"; done </run/modules/modules-dax';
    const make = "ndctl create-namespace --force --reconfig=namespace0.0 --mode=devdax --map=mem";
    await this.sh(`set -e; ${load}; test -e /dev/dax0.0 || ${make}`);
    return "/dev/dax0.0";
  }

  consoleText(): string {
    return this.#machine.consoleText();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#machine[Symbol.asyncDispose]();
  }
}

/** QEMU and the line to the agent in its guest. */
class Machine implements AsyncDisposable {
  readonly exchange: string;
  readonly ready: Promise<void>;
  readonly #console: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #waiting = new Map<number, PromiseWithResolvers<number>>();
  #dead: Error | undefined;

  constructor({ name, directory, memory, seLinux }: GuestOptions) {
    this.exchange = join(directory, "exchange");
    this.#console = join(directory, "console");
    mkdirSync(this.exchange, { recursive: true });
    copyFileSync(join(here, "guest-agent"), join(this.exchange, "agent"));
    const initramfs = join(directory, "initramfs");
    writeFileSync(initramfs, makeInitramfs(join(directory, "initramfs-files")));
    const share = (tag: string, path: string, more: string) => [
      "-fsdev",
      `local,id=${tag},path=${path},security_model=none,multidevs=remap${more}`,
      "-device",
      `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`,
    ];
    const shared =
      memory === undefined
        ? []
        : [
            ...["-object", `memory-backend-file,id=shared,share=on,mem-path=${memory.path},size=${memory.sizeBytes}`],
            ...["-device", "nvdimm,memdev=shared"],
          ];
    const security = seLinux === true ? " security=selinux selinux=1 enforcing=0" : "";
    const command = [
      // A killed test must not leave guests behind.
      ...["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"],
      ...["-machine", "q35,nvdimm=on", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"],
      ...["-m", "1280M,slots=2,maxmem=64G", "-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot"],
      ...shared,
      ...["-kernel", join(kernelFiles, "vmlinuz"), "-initrd", initramfs],
      ...["-append", `console=ttyS0 quiet panic=-1 agent=/run/exchange/agent rdinit=/init${security}`],
      ...["-serial", `file:${this.#console}`, "-chardev", "stdio,id=agent,signal=off", "-serial", "chardev:agent"],
      ...share("host", "/", ",readonly=on"),
      ...share("exchange", this.exchange, ""),
      ...["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net"],
    ];
    const [file = "", ...args] = command;
    this.#child = spawn(file, args, { stdio: ["pipe", "pipe", "pipe"] });
    const { promise: ready, resolve, reject } = Promise.withResolvers<void>();
    const { promise: exited, resolve: onExit } = Promise.withResolvers<void>();
    this.ready = ready;
    this.#exited = exited;
    let complaints = "";
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      complaints += chunk.toString();
    });
    const fail = (why: string) => {
      this.#dead ??= new Error(`guest ${name}: ${why}\n${complaints}${this.consoleText()}`);
      reject(this.#dead);
      for (const { reject: refuse } of this.#waiting.values()) refuse(this.#dead);
      this.#waiting.clear();
    };
    this.#child.on("error", (error) => {
      fail(error.message);
      onExit();
    });
    this.#child.on("close", (status, signal) => {
      fail(`ended with ${signal ?? `status ${status}`}`);
      onExit();
    });
    this.#child.stdin?.on("error", () => undefined); // "close" tells
    const late = setTimeout(() => fail(`takes no commands after ${BOOT_MS} ms`), BOOT_MS);
    if (this.#child.stdout === null) throw new Error("no pipe to the agent");
    createInterface(this.#child.stdout).on("line", (line) => {
      const [word, number, status] = line.trim().split(" ");
      if (word === "ready") {
        clearTimeout(late);
        resolve();
      } else if (word === "ended") {
        this.#waiting.get(Number(number))?.resolve(Number(status));
        this.#waiting.delete(Number(number));
      }
    });
    void exited.then(() => clearTimeout(late));
    ready.catch(() => undefined);
  }

  say(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  run(number: number): Promise<number> {
    if (this.#dead !== undefined) return Promise.reject(this.#dead);
    const waiting = Promise.withResolvers<number>();
    this.#waiting.set(number, waiting);
    this.say(`run ${number}`);
    return waiting.promise;
  }

  consoleText(): string {
    return existsSync(this.#console) ? readFileSync(this.#console, "latin1") : "";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }
}

/** busybox, the modules and guest-init as the archive that the kernel unpacks. */
function makeInitramfs(files: string): Buffer {
  mkdirSync(join(files, "bin"), { recursive: true });
  copyFileSync("/bin/busybox", join(files, "bin/busybox"));
  copyFileSync(join(here, "guest-init"), join(files, "init"));
  cpSync(join(kernelFiles, "modules"), join(files, "modules"), { recursive: true });
  for (const list of ["modules-root", "modules-dax"]) copyFileSync(join(here, list), join(files, list));
  const list = spawnSync("find", ["."], { cwd: files });
  const archive = spawnSync("busybox", ["cpio", "-o", "-H", "newc"], {
    cwd: files,
    input: list.stdout,
    maxBuffer: 2 ** 28,
  });
  if (archive.status !== 0) throw new Error(`cpio: ${archive.stderr.toString()}`);
  rmSync(files, { recursive: true });
  return archive.stdout;
}
