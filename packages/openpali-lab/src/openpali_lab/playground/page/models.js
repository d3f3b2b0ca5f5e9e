// The files of the models: loaded once, with progress, and kept by the browser for the next visit.

import * as ort from "./ort/ort.wasm.bundle.min.mjs";

const STORE = "openpali-playground";
const ROOT = new URL("../", import.meta.url);
const RUNTIME = "page/ort/ort-wasm-simd-threaded.wasm";
const THREADS = 4; // at most, where the server lets a page have threads at all

export class Models {
  /** `files` has the bytes and the checksum of each; `onProgress` is told {loaded, total} in bytes. */
  constructor(files, onProgress) {
    Object.assign(this, { files, onProgress, opened: new Map(), runtime: null });
  }

  /** The graphs of parts, ready to run, and other files as numbers: {"pali/image": session, "pali/ood.bin": ...}. */
  async open(names) {
    const missing = names.filter((name) => !this.opened.has(name));
    if (missing.length) {
      const wanted = [...(this.runtime ? [] : [RUNTIME]), ...missing.map(fileOf)];
      const progress = { loaded: 0, total: wanted.reduce((all, file) => all + this.files[file].bytes, 0) };
      const tell = (bytes) => this.onProgress({ ...progress, loaded: (progress.loaded += bytes) });
      try {
        tell(0);
        if (!this.runtime) await this.start(await this.bytes(RUNTIME, tell));
        for (const name of missing) {
          const bytes = await this.bytes(fileOf(name), tell);
          const graph = fileOf(name).endsWith(".onnx");
          this.opened.set(name, graph ? await ort.InferenceSession.create(bytes) : new Float32Array(bytes.buffer));
        }
      } finally {
        this.onProgress(null);
      }
    }
    return Object.fromEntries(names.map((name) => [name, this.opened.get(name)]));
  }

  async start(binary) {
    ort.env.wasm.wasmBinary = binary.buffer;
    ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(THREADS, navigator.hardwareConcurrency) : 1;
    ort.env.logLevel = "error";
    this.runtime = ort;
  }

  async bytes(file, tell) {
    const { bytes, checksum } = this.files[file];
    const url = new URL(`${file}?${checksum}`, ROOT).href;
    const store = await globalThis.caches?.open(STORE).catch(() => null);
    const kept = await store?.match(url);
    const answer = kept ?? (await fetch(url));
    if (!answer.ok) throw new Error(`${file} cannot be loaded: status ${answer.status}.`);
    const found = new Uint8Array(bytes);
    let at = 0;
    for (const reader = answer.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      if (at + value.length > bytes) throw new Error(`${file} is another one than this page was made with: reload it.`);
      found.set(value, at);
      at += value.length;
      tell(value.length);
    }
    if (at !== bytes) throw new Error(`${file} was not loaded whole: try again.`);
    if (store && !kept) await keep(store, url, found);
    return found;
  }
}

function fileOf(name) {
  return name.includes(".") ? `models/${name}` : `models/${name}.onnx`;
}

/** Keep a file, in place of those of other checksums; without room, it is loaded again next time. */
async function keep(store, url, bytes) {
  try {
    for (const old of await store.keys()) if (old.url.split("?")[0] === url.split("?")[0]) await store.delete(old);
    await store.put(url, new Response(bytes));
  } catch {
    // a full disk: the answer does not depend on it
  }
}

/** A tensor of a graph's input. */
export function tensor(values, shape, type = "float32") {
  return new ort.Tensor(type, values, shape);
}

export function integers(values, shape) {
  return tensor(BigInt64Array.from(values, BigInt), shape, "int64");
}
