"use strict";
// Attention over a frame in the four styles of `render/styles.py`, whose levels and colours the page brings along.
// All sizes are in px of the frame.

/** Attention of one step at every pixel, smoothed: rows (H, K) x attention (K, K) x columns (K, W). */
function smoothed(data, attention) {
  const K = data.gridSize, [width, height] = data.size;
  const half = new Float32Array(height * K), values = new Float32Array(height * width);
  for (let y = 0; y < height; y++)
    for (let i = 0; i < K; i++) {
      const weight = data.rows[y * K + i];
      if (weight) for (let j = 0; j < K; j++) half[y * K + j] += weight * attention[i * K + j];
    }
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let j = 0; j < K; j++) sum += half[y * K + j] * data.columns[x * K + j];
      values[y * width + x] = sum;
    }
  return values;
}

/** The bare weight of the cell at every pixel. */
function celled(data, attention) {
  const K = data.gridSize, [width, height] = data.size, values = new Float32Array(height * width);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      if (isSeen(data, x, y)) values[y * width + x] = attention[data.cellRows[y] * K + data.cellColumns[x]];
  return values;
}

/** Whether the network sees a pixel. */
function isSeen(data, x, y) {
  return data.cellRows[y] >= 0 && data.cellColumns[x] >= 0;
}

/** A mask and the pixels beside it. */
function grown(mask, width) {
  return mask.map((is, i) => is || mask[i - width] || mask[i + width] || (i % width && mask[i - 1]) || ((i + 1) % width && mask[i + 1]) ? 1 : 0);
}

/** Change every pixel: `paint` gets its red, green and blue, its strength from 0 to 1, its index, and whether it is seen. */
function repaint(context, data, values, full, paint) {
  const [width, height] = data.size, picture = context.getImageData(0, 0, width, height), pixels = picture.data;
  for (let i = 0; i < values.length; i++) {
    const seen = isSeen(data, i % width, Math.floor(i / width));
    const painted = paint([pixels[4 * i], pixels[4 * i + 1], pixels[4 * i + 2]], Math.min(1, values[i] / full), i, seen);
    for (let c = 0; c < 3; c++) pixels[4 * i + c] = Math.round(painted[c]);
  }
  context.putImageData(picture, 0, 0);
}

const whiteLight = (data) => (frame, level) => frame.map((value) => (1 - data.alpha) * value + data.alpha * 255 * level);

/** Lines and the weight in percent over each cell. */
function drawGrid(context, data, attention, full) {
  const K = data.gridSize, [x0, y0, x1, y1] = data.region, width = (x1 - x0) / K, height = (y1 - y0) / K;
  context.strokeStyle = "rgb(128 128 128 / 0.5)";
  context.lineWidth = 1;
  context.font = `${Math.max(6, Math.min(0.42 * height, 0.3 * width))}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  attention.forEach((weight, i) => {
    const left = x0 + (i % K) * width, top = y0 + Math.floor(i / K) * height;
    context.strokeRect(left, top, width, height);
    context.fillStyle = weight > 0.5 * full ? "#000" : "#ffe178";
    context.fillText(percent(weight), left + width / 2, top + height / 2);
  });
}

/** Lines along the outermost pixels of annotated boxes, as `render/boxes.py` draws them. */
function drawBoxes(context, data, boxes) {
  for (const [width, colour] of data.boxLines) {
    context.strokeStyle = `rgb(${colour.join(" ")})`;
    context.lineWidth = width;
    for (const [x0, y0, x1, y1] of boxes) context.strokeRect(x0 + 0.5, y0 + 0.5, x1 - x0, y1 - y0);
  }
}

const STYLES = {
  none() {},
  paper(context, data, attention, full) {
    repaint(context, data, smoothed(data, attention), full, whiteLight(data));
  },
  heat(context, data, attention, full) {
    repaint(context, data, smoothed(data, attention), full, ([red, green, blue], level, i, seen) => {
      const grey = 0.299 * red + 0.587 * green + 0.114 * blue, colour = data.colours[Math.round(255 * level)];
      return colour.map((value) => (seen ? (1 - data.heatAlpha) * grey + data.heatAlpha * value : data.unseen * grey));
    });
  },
  contour(context, data, attention, full) {
    const values = smoothed(data, attention), width = data.size[0], lines = new Map(), rims = new Uint8Array(values.length);
    const seen = values.map((value, i) => (isSeen(data, i % width, Math.floor(i / width)) ? 1 : 0));
    for (const [level, colour] of data.contours) {
      // What is not seen counts as inside, as the edge of a crop is no line.
      const inside = values.map((value, i) => (!seen[i] || Math.min(1, value / full) >= level ? 1 : 0));
      const near = grown(grown(inside.map((is) => 1 - is), width), width);
      const line = inside.map((is, i) => (is && near[i] && seen[i] ? 1 : 0));
      grown(line, width).forEach((is, i) => (rims[i] |= is && seen[i]));
      line.forEach((is, i) => is && lines.set(i, colour));
    }
    repaint(context, data, values, full, (frame, level, i, seen) => {
      const darkened = (seen ? 1 : data.unseen) * (rims[i] ? 0.4 : 1);
      return lines.get(i) ?? frame.map((value) => darkened * value);
    });
  },
  grid(context, data, attention, full) {
    repaint(context, data, celled(data, attention), full, whiteLight(data));
    drawGrid(context, data, attention, full);
  },
};

/** A share in percent with two digits or so. */
function percent(share) {
  const value = 100 * share;
  return value >= 9.95 ? value.toFixed(0) : value.toFixed(1);
}
