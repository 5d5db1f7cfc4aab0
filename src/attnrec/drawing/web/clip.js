"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const slider = find("step"), picture = find("picture"), context = picture.getContext("2d", { willReadFrequently: true });
  const uniform = 1 / data.gridSize ** 2, lastStep = data.times.length - 1;
  const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
  const frames = new Map(); // decoded pictures of the steps around this one
  let step = 0, playing = false;

  function frameOf(index) {
    if (!frames.has(index)) {
      const image = new Image();
      image.src = data.frames[index];
      frames.set(index, image);
      for (const old of frames.keys()) if (Math.abs(old - index) > 60) frames.delete(old);
    }
    return frames.get(index);
  }

  /** Attention that is drawn at full strength at this step. */
  function fullNow() {
    return data.full[chosen("scale")][chosen("style") === "grid" ? "cells" : "smooth"][step];
  }

  function drawPicture() {
    const image = frameOf(step), drawn = step;
    image.decode().then(() => {
      if (drawn !== step) return;
      const style = chosen("style");
      context.drawImage(image, 0, 0, ...data.size);
      STYLES[style](context, data, data.attention[step], fullNow());
      drawBoxes(context, data.looked[drawn], data.lookedLines, true);
      if (find("boxes")?.checked) drawBoxes(context, data.boxes[drawn], data.boxLines);
      document.documentElement.dataset.drawn = `${step} ${style} ${chosen("scale")}`;
    });
    frameOf(Math.min(lastStep, step + 1));
  }

  function drawLegend() {
    const style = chosen("style"), multiple = (fullNow() / uniform).toFixed(1);
    const ramp = find("ramp").getContext("2d");
    find("ramp").hidden = style === "none";
    for (let x = 0; x < 256; x++) {
      ramp.fillStyle = `rgb(${x} ${x} ${x})`;
      ramp.fillRect(x, 0, 1, 1);
    }
    find("legend").textContent =
      style === "none" ? "The frame as it is." : `From no attention to ${multiple} x uniform and more.`;
  }

  function showNumbers() {
    const attention = data.attention[step], peak = attention.reduce((best, weight, i) => (weight > attention[best] ? i : best), 0);
    const row = Math.floor(peak / data.gridSize) + 1, column = (peak % data.gridSize) + 1;
    find("clock").textContent = `${data.times[step].toFixed(2)} s, step ${step + 1} of ${lastStep + 1}`;
    find("entropy").textContent = `${data.entropy[step].toFixed(3)} of uniform`;
    find("peak").textContent = `${(attention[peak] / uniform).toFixed(1)} x uniform, row ${row}, column ${column}`;
    document.querySelectorAll("#cells td").forEach((cell, i) => {
      const level = Math.round(100 * Math.min(1, attention[i] / data.full[chosen("scale")].cells[step]));
      cell.textContent = percent(attention[i]);
      cell.className = i === peak ? "peak" : "";
      cell.style.background = `color-mix(in srgb, var(--accent) ${level}%, var(--card))`;
      cell.style.color = level > 50 ? "var(--card)" : "var(--text)";
    });
    document.querySelectorAll("#classes .value").forEach((value) => {
      const probability = data.probs[step][value.dataset.class];
      value.textContent = `${(100 * probability).toFixed(1)} %`;
      value.nextElementSibling.firstElementChild.style.transform = `scaleX(${probability})`;
    });
    slider.value = step;
    slider.setAttribute("aria-valuetext", find("clock").textContent);
    const span = data.times[lastStep] - data.times[0];
    const x = span ? (1000 * (data.times[step] - data.times[0])) / span : 0;
    document.querySelectorAll(".cursor").forEach((line) => {
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
    });
  }

  /** Each layer's own map, by its attention per area, and its share. */
  function drawLayers() {
    const density = data.layers.map((steps) => steps[step].map((weight) => weight * steps[step].length));
    const most = Math.max(...density.flat());
    document.querySelectorAll("#layers figure").forEach((figure, layer) => {
      const canvas = figure.querySelector("canvas"), side = canvas.width, cells = canvas.getContext("2d");
      const [x0, y0, x1, y1] = data.region;
      canvas.style.aspectRatio = (x1 - x0) / (y1 - y0);
      cells.clearRect(0, 0, side, side);
      cells.fillStyle = getComputedStyle(canvas).color;
      density[layer].forEach((level, i) => {
        cells.globalAlpha = level / most;
        cells.fillRect(i % side, Math.floor(i / side), 1, 1);
      });
      const share = data.layers[layer][step].reduce((sum, weight) => sum + weight, 0);
      figure.querySelector(".share").textContent = `${(100 * share).toFixed(1)} %`;
    });
  }

  function announce() {
    const best = data.probs[step].reduce((top, p, i, all) => (p > all[top] ? i : top), 0);
    find("announce").textContent =
      `${find("clock").textContent}: ${data.classes[best]} ${percent(data.probs[step][best])} percent, peak ${find("peak").textContent}`;
  }

  let remembering;
  /** Keep step and switches in the address, so that a place in a clip can be shared. */
  function remember() {
    clearTimeout(remembering);
    remembering = setTimeout(() => {
      const place = new URLSearchParams({ t: data.times[step], style: chosen("style"), scale: chosen("scale") });
      history.replaceState(null, "", `#${place}`);
    }, 400);
  }

  function show(index) {
    step = Math.max(0, Math.min(lastStep, index));
    showNumbers();
    drawLayers();
    drawLegend();
    drawPicture();
    if (!playing) remember();
  }

  /** The last step that has begun by a time in seconds. */
  function stepAt(seconds) {
    let index = 0;
    while (index < lastStep && data.times[index + 1] <= seconds + 1e-6) index++;
    return index;
  }

  function play(wanted) {
    if (wanted === playing) return;
    playing = wanted;
    find("play").textContent = playing ? "Pause" : "Play";
    if (!playing) {
      announce();
      remember();
      return;
    }
    if (step === lastStep) show(0);
    let clock = data.times[step], before = performance.now();
    const tick = (now) => {
      if (!playing) return;
      if (stepAt(clock) !== step) clock = data.times[step]; // the slider was moved while it played
      clock += ((now - before) / 1000) * Number(find("speed").value);
      before = now;
      if (clock >= data.end) {
        if (!find("loop").checked) return play(false);
        clock = data.times[0];
      }
      const index = stepAt(clock);
      if (index !== step) show(index);
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  function go(index) {
    play(false);
    show(index);
    announce();
  }

  function recall() {
    const place = new URLSearchParams(location.hash.slice(1)), seconds = Number.parseFloat(place.get("t"));
    for (const name of ["style", "scale"])
      for (const option of document.querySelectorAll(`input[name=${name}]`)) if (option.value === place.get(name)) option.checked = true;
    show(Number.isFinite(seconds) ? stepAt(seconds) : step);
  }

  find("play").addEventListener("click", () => play(!playing));
  slider.addEventListener("input", () => go(Number(slider.value)));
  document.querySelectorAll("input[name=style], input[name=scale], #boxes").forEach((option) => option.addEventListener("change", () => show(step)));
  document.querySelectorAll("[data-seeks]").forEach((plot) =>
    plot.addEventListener("click", (event) => {
      const box = plot.getBoundingClientRect(), share = (event.clientX - box.left) / box.width;
      go(stepAt(data.times[0] + share * (data.times[lastStep] - data.times[0])));
    }),
  );
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, button") && event.target !== find("play")) return;
    const moves = { ArrowLeft: step - 1, ArrowRight: step + 1, Home: 0, End: lastStep };
    if (event.key === " " && event.target !== find("play")) play(!playing);
    else if (event.key in moves) go(moves[event.key]);
    else return;
    event.preventDefault();
  });
  window.addEventListener("hashchange", recall);
  recall();
})();
