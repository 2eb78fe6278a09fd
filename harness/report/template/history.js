// The history as a table of which only the rows that are seen are in the page: search, filters, keyboard, downloads.
"use strict";
(() => {
  const section = document.getElementById("history");
  const form = section && section.querySelector("form"); // there is none where the page does not hold the history
  if (!form) return;
  const ROW = 28; // pixels
  const TALLEST = 8e6; // browsers draw nothing that is much taller
  const SLICE = 20000; // rows that are looked at before the page may answer again
  const LONGEST = 160, WHOLE = 20000; // characters of a cell, and beside the table
  const HIDDEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\p{Cs}\ufffe\uffff]/gu;
  const ASKS = /^(read|get|members|dequeue|pop|peek)/;
  const part = (name) => section.querySelector(`[data-part="${name}"]`);
  const [scroller, sizer, grid, told, beside] = ["scroller", "sizer", "grid", "told", "operation"].map(part);
  const body = grid.tBodies[0];
  const columns = [...grid.tHead.rows[0].cells].map((cell) => cell.dataset.column);
  const field = form.elements;
  let history = null, names = null;
  let all = [], matches = [];
  let active = 0, first = 0;

  // What would steer what shows it is seen as an escape.
  const visible = (text) => text.replace(HIDDEN, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
  // What a line of JSON says: text as itself, everything else as it stands there.
  function plainly(line) {
    if (line === "null") return "";
    return visible(line.startsWith('"') ? JSON.parse(line) : report.plain(line));
  }
  const cut = (text, length) => (text.length <= length ? text : `${text.slice(0, length)}\u2026`);
  const value = (line) => visible(report.plain(line));

  const tell = {
    op: (row) => history.index(row),
    time: (row) => (history.timeless ? "" : (history.time(row) / 1e9).toFixed(6)),
    latency: (row) => (history.answer[row] < 0 || history.timeless ? "" : ((history.time(history.answer[row]) - history.time(row)) / 1e6).toFixed(3)),
    process: (row) => history.who(row),
    node: (row) => names.nodes[history.node[row]],
    served: (row) => {
      const by = history.answer[row] < 0 ? row : history.answer[row];
      const term = history.term(by);
      return history.server[by] ? names.nodes[history.server[by]] + (term && ` (term ${term})`) : "";
    },
    f: (row) => names.functions[history.f[row]],
    key: (row) => names.keys[history.key[row]],
    value: (row) => value(history.value(row)),
    answer: (row) => {
      const by = history.answer[row];
      if (by < 0) return "";
      const line = history.value(by);
      if (!line && history.type[by] === 1 && ASKS.test(names.functions[history.f[row]])) return "nothing";
      return line === history.value(row) ? "" : value(line);
    },
    outcome: (row) => outcome(row),
    error: (row) => {
      const error = history.error[history.answer[row] < 0 ? row : history.answer[row]];
      return error < 0 ? "" : names.errors[error];
    },
  };
  function outcome(row) {
    if (history.answer[row] >= 0) return report.TYPES[history.type[history.answer[row]]];
    if (history.process[row] === report.MONITOR) return "";
    return history.type[row] === report.INVOKE ? "info" : report.TYPES[history.type[row]];
  }

  // Only what can be seen is in the page.
  const fits = () => Math.max(Math.floor((scroller.clientHeight - grid.tHead.offsetHeight) / ROW), 1);
  const tall = () => Math.min(matches.length * ROW, TALLEST);
  const last = () => Math.max(matches.length - fits(), 0);
  function draw() {
    first = Math.min(Math.max(first, 0), last());
    const count = Math.min(fits(), matches.length - first);
    while (body.rows.length > count) body.deleteRow(-1);
    while (body.rows.length < count) {
      const line = body.insertRow();
      for (const name of columns) line.insertCell().dataset.column = name;
    }
    for (let at = 0; at < count; at++) {
      const [line, row] = [body.rows[at], matches[first + at]];
      line.id = `row-${row}`;
      line.setAttribute("aria-rowindex", first + at + 2);
      line.setAttribute("aria-selected", first + at === active);
      line.dataset.outcome = outcome(row);
      line.dataset.who = history.process[row] < 0 ? "harness" : "client";
      columns.forEach((name, place) => {
        const text = cut(tell[name](row), LONGEST);
        if (line.cells[place].textContent !== text) line.cells[place].textContent = text;
      });
    }
    grid.setAttribute("aria-rowcount", matches.length + 1);
    const row = matches[active];
    if (row !== undefined && active >= first && active < first + count) grid.setAttribute("aria-activedescendant", `row-${row}`);
    else grid.removeAttribute("aria-activedescendant");
  }
  function resize() {
    sizer.style.height = `${tall() + grid.tHead.offsetHeight}px`;
  }
  // How far the scroller is down where a row is the first; a page of a million rows is not as tall as they are.
  const offset = (row) => (last() ? (row / last()) * (sizer.offsetHeight - scroller.clientHeight) : 0);
  function place() {
    const room = sizer.offsetHeight - scroller.clientHeight;
    const row = room > 0 ? Math.round((scroller.scrollTop / room) * last()) : 0;
    if (Math.abs(offset(first) - scroller.scrollTop) > 1) first = row;
    draw();
  }
  function go(to, { middle = false } = {}) {
    active = Math.min(Math.max(to, 0), Math.max(matches.length - 1, 0));
    const count = fits();
    if (middle) first = active - Math.floor(count / 2);
    else if (active < first) first = active;
    else if (active >= first + count) first = active - count + 1;
    first = Math.min(Math.max(first, 0), last());
    scroller.scrollTop = offset(first);
    draw();
    describe();
  }

  // The chosen operation, in full.
  function describe() {
    const row = matches[active];
    beside.hidden = row === undefined;
    if (row === undefined) return;
    const list = beside.querySelector("dl");
    list.replaceChildren();
    for (const cell of grid.tHead.rows[0].cells) {
      const text = tell[cell.dataset.column](row);
      if (!text) continue;
      const [name, what] = [document.createElement("dt"), document.createElement("dd")];
      name.textContent = cell.dataset.column === "op" ? "operation" : cell.textContent;
      if (cell.dataset.column === "op") {
        const link = what.appendChild(document.createElement("a"));
        link.href = `#op-${encodeURIComponent(text)}`;
        link.textContent = text;
      } else what.textContent = cut(text, WHOLE);
      const pair = document.createElement("div");
      pair.append(name, what);
      list.append(pair);
    }
  }

  function number(input) {
    const text = field[input].value.trim();
    return text === "" || Number.isNaN(Number(text)) ? null : Number(text) * 1e9;
  }

  // What each row has to be; those come first that are quickly looked at.
  function wanted() {
    const tests = [];
    const who = field.who.value;
    if (who === "clients") tests.push((row) => history.process[row] >= 0);
    if (who === "faults") tests.push((row) => history.process[row] === report.NEMESIS);
    if (who === "monitor") tests.push((row) => history.process[row] === report.MONITOR);
    const [from, to] = [number("from"), number("to")];
    // Whatever has begun before the end of the time, and was not over before it began.
    if (to !== null) tests.push((row) => history.time(row) <= to);
    if (from !== null) tests.push((row) => (ends(row) >= from));
    const f = names.functions.indexOf(field.f.value);
    if (field.f.value) tests.push((row) => history.f[row] === f);
    if (field.node.value) {
      const node = names.nodes.indexOf(field.node.value);
      tests.push((row) => history.node[row] === node || (history.answer[row] >= 0 && history.server[history.answer[row]] === node));
    }
    if (field.outcome.value) tests.push((row) => outcome(row) === field.outcome.value);
    const process = field.process.value.trim();
    if (process) tests.push((row) => history.who(row) === process);
    const key = field.key.value.trim();
    if (key) {
      const codes = new Set(names.keys.flatMap((name, code) => (name === key || history.texts.keys[code] === key ? [code] : [])));
      tests.push((row) => codes.has(history.key[row]));
    }
    const words = field.search.value.trim().toLowerCase();
    if (words) tests.push(saying(words));
    return tests;
  }
  // Whether words are in what is told of a row; in what rows share it is looked once.
  function saying(words) {
    const has = (text) => text.toLowerCase().includes(words);
    const [f, key, node, error] = ["functions", "keys", "nodes", "errors"].map((name) => names[name].map(has));
    return (row) => {
      const by = history.answer[row] < 0 ? row : history.answer[row];
      return f[history.f[row]] || key[history.key[row]] || node[history.node[row]] || node[history.server[by]]
        || (history.error[by] >= 0 && error[history.error[by]])
        || has(history.value(row)) || (by !== row && has(history.value(by)))
        || has(history.index(row)) || has(history.who(row));
    };
  }
  function ends(row) {
    if (history.answer[row] >= 0) return history.time(history.answer[row]);
    return history.type[row] === report.INVOKE ? Infinity : history.time(row);
  }

  let turn = 0;
  async function filter(only = null) {
    const mine = ++turn;
    const keep = matches[active];
    const tests = only ? [] : wanted();
    const rows = [];
    const among = only || all;
    for (let from = 0; from < among.length; from += SLICE) {
      if (from) {
        told.textContent = `searching: ${Math.round((100 * from) / among.length)} %`;
        await new Promise((done) => { setTimeout(done); });
        if (mine !== turn) return; // somebody has asked for something else meanwhile
      }
      for (let at = from; at < Math.min(from + SLICE, among.length); at++) {
        const row = among[at];
        if (tests.every((test) => test(row))) rows.push(row);
      }
    }
    matches = rows;
    part("only").hidden = !only;
    told.textContent = `${matches.length.toLocaleString("en")} of ${all.length.toLocaleString("en")} shown`;
    resize();
    go(keep === undefined ? 0 : Math.max(matches.indexOf(keep), 0), { middle: true });
  }

  const keys = {
    ArrowDown: () => active + 1, ArrowUp: () => active - 1,
    PageDown: () => active + fits(), PageUp: () => active - fits(),
    Home: () => 0, End: () => matches.length - 1,
  };

  function options(select, texts) {
    for (const text of [...new Set(texts)].filter(Boolean).sort()) select.append(new Option(cut(text, 80), text));
  }

  let ready = null;
  // The table, which is filled the first time that somebody comes to see it.
  function open() {
    ready ||= fill().catch((error) => { told.textContent = error.message; throw error; });
    return ready;
  }
  async function fill() {
    told.textContent = "the history is being opened";
    history = await report.history();
    const { texts } = history;
    names = Object.fromEntries(["functions", "keys", "nodes", "errors"].map((name) => [name, texts[name].map(plainly)]));
    all = [];
    for (let row = 0; row < history.rows; row++) if (history.asked[row] < 0) all.push(row);
    options(field.f, names.functions);
    options(field.node, names.nodes);
    const list = part("keys");
    for (const key of [...new Set(names.keys)].filter(Boolean).slice(0, 500)) list.append(new Option(key));
    for (const control of form.querySelectorAll("[disabled]")) control.disabled = false;
    await filter();
  }

  async function seek() {
    const asked = location.hash.match(/^#op-(.+)$/);
    if (!asked) return;
    section.scrollIntoView({ block: "start" });
    await open();
    const row = history.find(decodeURIComponent(asked[1]));
    if (row < 0) { told.textContent = `there is no event ${asked[1]}`; return; }
    if (!matches.includes(row)) {
      form.reset();
      if (history.process[row] < 0) field.who.value = "";
      await filter();
    }
    go(matches.indexOf(row), { middle: true });
    section.scrollIntoView({ block: "start" });
    grid.focus({ preventScroll: true });
  }

  // Only these operations; every other filter waits meanwhile.
  async function only(rows) {
    await open();
    await filter([...rows].sort((a, b) => a - b));
    section.scrollIntoView({ block: "start" });
    grid.focus({ preventScroll: true });
  }
  async function save(rows, name, says) {
    try {
      report.save((await report.history()).lines(rows), name);
    } catch (error) {
      says.textContent = error.message;
    }
  }
  // The operations of an anomaly, which a button in its section asks for.
  async function sought(button) {
    const says = button.parentElement.querySelector("output");
    try {
      const held = await report.history();
      const rows = button.dataset.ops.split(",").map((index) => held.find(index)).filter((row) => row >= 0);
      if (button.dataset.deed === "show") await only(rows); else await save(rows, `${button.dataset.name}.jsonl`, says);
    } catch (error) {
      says.textContent = error.message;
    }
  }

  // The window of time that was moved last. That of an anomaly is none: it has places on an axis that may be broken.
  let shown = report.windows.get("run");
  document.addEventListener("window-changed", ({ detail }) => { if (!detail.name.startsWith("anomaly-")) shown = detail; });
  const deeds = {
    window: () => {
      const { from, to } = shown;
      [field.from.value, field.to.value] = [from, to].map((time) => String(Number(time.toFixed(6))));
      filter();
    },
    reset: () => { form.reset(); filter(); },
    matches: () => save(matches, "selection.jsonl", told),
    all: () => save(all, "history.jsonl", told),
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  let pause = null;
  form.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => filter(), 120);
  });
  section.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-deed]");
    if (button && history) deeds[button.dataset.deed]();
  });
  for (const button of document.querySelectorAll("button[data-ops]")) button.addEventListener("click", () => sought(button));
  scroller.addEventListener("scroll", () => { if (history) place(); });
  body.addEventListener("click", (event) => {
    const line = event.target.closest("tr");
    if (line && getSelection().isCollapsed) go(first + line.sectionRowIndex);
  });
  grid.addEventListener("keydown", (event) => {
    const to = keys[event.key];
    if (!to || !history || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    go(to());
  });
  new ResizeObserver(() => { if (history) { resize(); draw(); } }).observe(scroller);
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    open().catch(() => {});
  }, { rootMargin: "400px" }).observe(section);
  part("window").hidden = !report.windows.has("run");
  addEventListener("hashchange", () => seek().catch(() => {})); // what went wrong is said above the table
  seek().catch(() => {});
})();
