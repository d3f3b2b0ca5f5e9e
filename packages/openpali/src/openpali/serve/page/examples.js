// What the page has from beside it, whoever answers its questions; `call` fetches a path or raises Refused.

/** A question that is not answered; `status` is the server's, or 0 if there was no answer. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Questions to try, each {title, images, task, text, lang}, with the addresses of the images. */
export async function examplesBy(call) {
  const examples = await (await call("page/examples.json")).json();
  return examples.map((each) => ({ ...each, images: each.images.map((path) => `page/examples/${path}`) }));
}

/** The images at addresses beside the page, as files. */
export function filesBy(call, urls) {
  return Promise.all(
    urls.map(async (url) => {
      const blob = await (await call(url)).blob();
      return new File([blob], url.split("/").at(-1), { type: blob.type });
    }),
  );
}
