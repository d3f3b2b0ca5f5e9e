// The models run beside the page, so that it stays quick: questions come as messages, answers go back.

import { Engine } from "./engine.js";

let engine = null;
const stopped = new Set();
let turn = Promise.resolve(); // one question after another

self.addEventListener("message", ({ data }) => {
  if (data.stop) stopped.add(data.stop);
  else if (data.tables) engine = new Engine(data.tables, (progress) => self.postMessage({ progress }));
  else turn = turn.then(() => answer(data));
});

async function answer({ id, question, blob, key }) {
  const check = async () => {
    await breathe();
    if (stopped.delete(id)) throw new DOMException("stopped", "AbortError");
  };
  const onText = (text) => text && self.postMessage({ id, text });
  const image = blob && { blob, key };
  try {
    await check();
    const reads = question.task === "read";
    const found = reads ? await engine.read(image, { check }) : await engine.ask(question, image, { check, onText });
    self.postMessage({ id, found });
  } catch (error) {
    self.postMessage({ id, error: { message: String(error.message ?? error) } });
  }
}

/** Let messages in, such as that a question is stopped. */
function breathe() {
  return new Promise((done) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => (port1.close(), done());
    port2.postMessage(null);
  });
}
