// Draws the pictures when they come into view, and lets all pictures of one window be zoomed together.
"use strict";
(() => {
  const FACTOR = 1.6; // what one step of zooming shows more or less of
  const STILL = 3; // pixels that a click may move
  const drawn = new Map();
  const windows = new Map();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function look() {
    const [ink, dim, line] = ["--ink", "--dim", "--line"].map(colour);
    const words = { labelColor: ink, titleColor: dim, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 400 };
    return {
      background: null,
      font: "system-ui, sans-serif",
      aria: false, // each picture says in words what is to be seen; a thousand marks would not
      mark: { aria: false }, // a description of each would be worked out for nothing, at every step of a zoom
      view: { stroke: null },
      axis: { ...words, gridColor: line, domainColor: line, tickColor: line },
      legend: { ...words, orient: "top", title: null },
      header: words,
      title: { color: ink, fontSize: 13 },
      text: { color: ink, fontSize: 12 },
      rule: { color: dim },
    };
  }

  async function draw(figure) {
    if (drawn.has(figure)) return;
    drawn.set(figure, null);
    const specification = JSON.parse(figure.querySelector("script").textContent);
    const shared = windows.get(figure.dataset.window);
    if (shared) for (const param of specification.params || []) if (param.name in shared) param.value = shared[param.name];
    const { view } = await vegaEmbed(figure.querySelector(".drawing"), specification, {
      mode: "vega-lite", ast: true, actions: false, defaultStyle: false, config: look(),
      renderer: "canvas" in figure.dataset ? "canvas" : "svg",
      tooltip: { theme: dark.matches ? "dark" : "light", disableDefaultStyle: true },
    });
    drawn.set(figure, view);
    // The words of the picture are its label; its marks by themselves would tell nothing.
    figure.querySelector(".drawing > svg")?.setAttribute("aria-hidden", "true");
    view.addEventListener("click", (_, item) => {
      const op = item && item.datum && item.datum.op;
      if (dragged) return;
      if (op !== undefined && op !== null) location.hash = `op-${op}`;
    });
    if (shared) await update(figure);
  }

  // Pictures out of sight wait until they come into it, and none is drawn more often than the screen.
  const stale = new Set();
  const inSight = new Set();
  let refreshing = null;

  function refresh() {
    const due = () => [...stale].filter((figure) => inSight.has(figure) && drawn.get(figure));
    refreshing ??= (async () => {
      while (due().length) {
        await new Promise(requestAnimationFrame);
        await Promise.all(due().map(update));
      }
    })().finally(() => { refreshing = null; });
    return refreshing;
  }

  function update(figure) {
    stale.delete(figure);
    const { from, to } = windows.get(figure.dataset.window);
    return drawn.get(figure).signal("from", from).signal("to", to).runAsync();
  }

  function show(name, change) {
    const shared = windows.get(name);
    const [low, high] = [shared.start, shared.end];
    let { from, to } = { ...shared, ...change };
    const length = Math.min(Math.max(to - from, (high - low) / 1e6), high - low);
    from = Math.min(Math.max(from, low), high - length);
    to = from + length;
    Object.assign(shared, { from, to });
    for (const figure of drawn.keys()) if (figure.dataset.window === name) stale.add(figure);
    for (const label of document.querySelectorAll(`.window[data-of="${name}"] output`)) {
      label.textContent = `${from.toFixed(digits(length))} s to ${to.toFixed(digits(length))} s`;
    }
    document.dispatchEvent(new CustomEvent("window-changed", { detail: { name, from, to } }));
    return refresh();
  }

  const digits = (length) => Math.min(Math.max(1 - Math.floor(Math.log10(length)), 0) + 1, 9);

  function zoom(name, factor, at = 0.5) {
    const { from, to } = windows.get(name);
    const length = (to - from) * factor;
    const around = from + (to - from) * at;
    show(name, { from: around - length * at, to: around + length * (1 - at) });
  }

  function move(name, share) {
    const { from, to } = windows.get(name);
    show(name, { from: from + (to - from) * share, to: to + (to - from) * share });
  }

  const deeds = {
    closer: (name) => zoom(name, 1 / FACTOR),
    farther: (name) => zoom(name, FACTOR),
    left: (name) => move(name, -0.25),
    right: (name) => move(name, 0.25),
    whole: (name) => show(name, { from: windows.get(name).start, to: windows.get(name).end }),
  };
  const KEYS = { "+": "closer", "=": "closer", "-": "farther", ArrowLeft: "left", ArrowRight: "right", 0: "whole" };

  // Does in a window what a key stands for.
  function press(name, event) {
    const deed = KEYS[event.key];
    if (!deed || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    deeds[deed](name);
  }

  // The part of a figure that time runs over: where its axes are.
  function plot(figure) {
    const view = drawn.get(figure);
    const box = figure.querySelector(".drawing").getBoundingClientRect();
    return view ? { left: box.left + view.padding().left + view.origin()[0], width: view.signal("width") } : { left: box.left, width: box.width };
  }

  let dragged = false; // whether the pointer has moved since it was pressed: then its release is no click
  function listen(figure) {
    const name = figure.dataset.window;
    const drawing = figure.querySelector(".drawing");
    drawing.tabIndex = 0;
    drawing.addEventListener("keydown", (event) => press(name, event));
    drawing.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey) return; // the page itself must still scroll
      event.preventDefault();
      const { left, width } = plot(figure);
      zoom(name, event.deltaY < 0 || event.deltaX < 0 ? 1 / FACTOR : FACTOR, Math.min(Math.max((event.clientX - left) / width, 0), 1));
    }, { passive: false });
    let held = null;
    drawing.addEventListener("pointerdown", (event) => {
      dragged = false;
      if (event.button === 0) held = { x: event.clientX, y: event.clientY, ...windows.get(name) };
    });
    drawing.addEventListener("pointermove", (event) => {
      if (!held || !event.buttons) return;
      dragged ||= Math.hypot(event.clientX - held.x, event.clientY - held.y) > STILL;
      if (!dragged) return;
      const by = ((held.x - event.clientX) / plot(figure).width) * (held.to - held.from);
      show(name, { from: held.from + by, to: held.to + by });
    });
    for (const end of ["pointerup", "pointerleave"]) drawing.addEventListener(end, () => { held = null; });
  }

  function begin() {
    for (const bar of document.querySelectorAll(".window")) {
      const [start, end] = [Number(bar.dataset.start), Number(bar.dataset.end)];
      const from = "from" in bar.dataset ? Number(bar.dataset.from) : start;
      windows.set(bar.dataset.of, { start, end, from, to: end });
      for (const button of bar.querySelectorAll("button")) {
        button.addEventListener("click", () => deeds[button.dataset.do](bar.dataset.of));
      }
    }
    const seen = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) { inSight.delete(target); continue; }
        inSight.add(target);
        draw(target);
      }
      refresh();
    }, { rootMargin: "200px" });
    for (const figure of document.querySelectorAll("figure.picture")) {
      if (windows.has(figure.dataset.window)) listen(figure);
      seen.observe(figure);
    }
    addEventListener("beforeprint", () => {
      for (const figure of document.querySelectorAll("figure.picture")) { inSight.add(figure); draw(figure); }
      refresh();
    });
    dark.addEventListener("change", () => {
      for (const [figure, view] of [...drawn]) { if (view) view.finalize(); drawn.delete(figure); draw(figure); }
    });
    for (const button of document.querySelectorAll("button[data-copy]")) {
      button.addEventListener("click", async () => {
        const text = document.getElementById(button.dataset.copy).textContent;
        try { await navigator.clipboard.writeText(text); } catch { copy(text); }
        button.textContent = "copied";
        setTimeout(() => { button.textContent = "copy"; }, 1500);
      });
    }
  }

  // Where a page from a file may not use the clipboard.
  function copy(text) {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }

  globalThis.report = { draw, show, press, windows, drawn };
  begin();
})();
