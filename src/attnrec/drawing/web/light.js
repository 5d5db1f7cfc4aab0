"use strict";
// Attention over a frame in two of the styles of `drawing/light.py`.
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
      if (data.cellRows[y] >= 0 && data.cellColumns[x] >= 0) values[y * width + x] = attention[data.cellRows[y] * K + data.cellColumns[x]];
  return values;
}

/** White light of a strength from 0 to 1 at every pixel, `full` being 1, over the darkened frame. */
function shine(context, data, values, full) {
  const picture = context.getImageData(0, 0, ...data.size), pixels = picture.data;
  values.forEach((value, i) => {
    const light = data.alpha * 255 * Math.min(1, value / full);
    for (let c = 4 * i; c < 4 * i + 3; c++) pixels[c] = Math.round((1 - data.alpha) * pixels[c] + light);
  });
  context.putImageData(picture, 0, 0);
}

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

/** Lines along the outermost pixels of boxes, or within them, as `drawing/outlines.py` draws them. */
function drawBoxes(context, boxes, lines, within = false) {
  for (const [width, colour] of lines) {
    const inset = within ? width / 2 : 0.5, grown = within ? 1 - width : 0;
    context.strokeStyle = `rgb(${colour.join(" ")})`;
    context.lineWidth = width;
    for (const [x0, y0, x1, y1] of boxes) context.strokeRect(x0 + inset, y0 + inset, x1 - x0 + grown, y1 - y0 + grown);
  }
}

const STYLES = {
  none() {},
  paper(context, data, attention, full) {
    shine(context, data, smoothed(data, attention), full);
  },
  grid(context, data, attention, full) {
    shine(context, data, celled(data, attention), full);
    drawGrid(context, data, attention, full);
  },
};

/** A share in percent with two digits or so. */
function percent(share) {
  const value = 100 * share;
  return value >= 9.95 ? value.toFixed(0) : value.toFixed(1);
}
