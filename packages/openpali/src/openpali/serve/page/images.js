// Images as the page holds them: {name, blob, url, width, height}, and of a video the frames that are sent.

const FRAMES = 8; // of a video, as `openpali predict` takes
export const PDF = "application/pdf"; // of which no browser shows pages as images
const LONGEST = 1920; // pixels of a frame's longer side: eight fit into a request

/** The images in files; a video becomes its frames, and a PDF file, if those are taken, stays one.
 * Throws an Error that says which file cannot be read. */
export async function readFiles(files, documents) {
  const found = [];
  for (const file of files) {
    if (file.type === PDF && !documents) throw new Error(`${file.name} is a PDF file: choose images of its pages.`);
    if (file.type === PDF) found.push({ name: file.name, blob: file, url: "page/document.svg", width: 300, height: 400 });
    else if (file.type.startsWith("video/")) found.push(...(await framesOf(file)));
    else found.push(await readImage(file, file.name || "pasted.png"));
  }
  return found;
}

async function readImage(blob, name) {
  const url = URL.createObjectURL(blob);
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(url);
    throw new Error(`${name} is not an image that this browser can show.`);
  }
  return { name, blob, url, width: image.naturalWidth, height: image.naturalHeight };
}

/** Frames spread evenly over a video, the first and the last among them. */
async function framesOf(file) {
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  video.src = URL.createObjectURL(file);
  try {
    await once(video, "loadeddata");
    const canvas = document.createElement("canvas");
    const scale = Math.min(1, LONGEST / Math.max(video.videoWidth, video.videoHeight));
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight].map((side) => Math.round(scale * side));
    const last = Number.isFinite(video.duration) ? Math.max(0, video.duration - 0.05) : 0;
    const frames = [];
    for (let i = 0; i < (last ? FRAMES : 1); i++) {
      video.currentTime = (last * i) / (FRAMES - 1);
      await once(video, "seeked");
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
      frames.push(await readImage(blob, `${file.name}-${i + 1}.jpg`));
    }
    return frames;
  } catch {
    throw new Error(`${file.name} is not a video that this browser can play.`);
  } finally {
    URL.revokeObjectURL(video.src);
  }
}

function once(target, event) {
  return new Promise((resolve, reject) => {
    target.addEventListener(event, resolve, { once: true });
    target.addEventListener("error", reject, { once: true });
  });
}

/** An image as a data URL, byte for byte. */
export function dataUrl(image) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${image.name} cannot be read any more: choose it again.`));
    reader.readAsDataURL(image.blob);
  });
}
