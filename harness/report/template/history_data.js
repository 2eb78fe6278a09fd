// Opens the history that is packed in the page (harness/report/history_table.py), and tells of each of its events.
"use strict";
(() => {
  const NOTHING = 0, NUMBER = 1, PAIR = 2, ONLY_SECOND = 3, ONLY_FIRST = 4, NEITHER = 5, TEXT = 6, SAME = 7;
  const TYPES = ["invoke", "ok", "fail", "info"];
  const INVOKE = 0;
  const NEMESIS = -1, MONITOR = -2; // as processes

  async function unpacked(base64) {
    const binary = atob(base64);
    const bytes = new Uint8Array(binary.length);
    for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // The columns and the texts by name.
  function parts(bytes) {
    const text = new TextDecoder();
    let at = bytes.indexOf(10) + 1;
    const head = JSON.parse(text.decode(bytes.subarray(0, at)));
    const columns = {};
    for (const [name, { count, width, least, steps }] of Object.entries(head.columns)) {
      columns[name] = column(bytes.subarray(at, at + count * width), count, width, steps);
      columns[name].least = least;
      at += count * width;
    }
    const sizes = bytes.subarray(at, bytes.indexOf(10, at) + 1);
    at += sizes.length;
    const texts = {};
    for (const [name, size] of Object.entries(JSON.parse(text.decode(sizes)))) {
      texts[name] = text.decode(bytes.subarray(at, at + size)).split("\n");
      texts[name].pop();
      at += size;
    }
    return { head, columns, texts };
  }

  function column(planes, count, width, steps) {
    const numbers = new Float64Array(count);
    for (let plane = 0, weight = 1; plane < width; plane++, weight *= 256) {
      const from = plane * count;
      for (let row = 0; row < count; row++) numbers[row] += planes[from + row] * weight;
    }
    if (steps) {
      let sum = 0;
      for (let row = 0; row < count; row++) {
        const step = numbers[row];
        sum += step % 2 ? -(step + 1) / 2 : step / 2;
        numbers[row] = sum;
      }
    }
    return numbers;
  }

  // What begins with "~" was cut: how long it was, and how it began.
  const isCut = (line) => line.startsWith("~");
  function plain(line) {
    if (!isCut(line)) return line;
    const [, length, start] = line.match(/^~(\d+)~(.*)$/s);
    return `${start}\u2026 (${Number(length).toLocaleString("en")} characters)`;
  }

  // The events one by one, by their rows; texts of JSON stay text, so that nothing of a value is lost.
  class History {
    constructor({ head, columns, texts }) {
      Object.assign(this, { rows: head.rows, timeless: head.timeless, texts, columns });
      this.process = whole(columns.process);
      this.type = columns.type = Uint8Array.from(whole(columns.type));
      this.#pair();
      for (const name of ["f", "key"]) {
        const codes = Int32Array.from(whole(columns[name]));
        for (let row = 0; row < this.rows; row++) if (this.asked[row] >= 0 && this.process[row] >= 0) codes[row] += codes[this.asked[row]];
        this[name] = columns[name] = codes;
      }
      this.node = columns.node = Int32Array.from(whole(columns.node));
      const first = new Map(); // what is the node of a process at first
      for (let row = 0; row < this.rows; row++) {
        if (first.has(this.process[row])) this.node[row] += first.get(this.process[row]);
        else first.set(this.process[row], this.node[row]);
      }
      this.server = columns.server = Int32Array.from(whole(columns.server));
      this.kind = columns.kind = Uint8Array.from(whole(columns.kind));
      this.#place();
    }

    // Which completion belongs to which invocation. Clients do one thing at a time; the nemesis may do several.
    #pair() {
      this.asked = new Int32Array(this.rows).fill(-1);
      this.answer = new Int32Array(this.rows).fill(-1);
      const open = new Map();
      for (let row = 0; row < this.rows; row++) {
        if (this.process[row] === MONITOR) continue;
        const who = this.process[row] >= 0 ? this.process[row] : `${this.columns.f[row]}`;
        const before = open.get(who);
        if (this.type[row] === INVOKE) open.set(who, row);
        else if (before !== undefined) {
          this.asked[row] = before;
          this.answer[before] = row;
          open.delete(who);
        }
      }
    }

    // Where in the columns that only some events are in each of them is.
    #place() {
      const { columns, rows, kind } = this;
      this.at = new Int32Array(rows).fill(-1); // in numbers or, where it is none, in texts
      this.secondAt = new Int32Array(rows).fill(-1);
      this.termAt = new Int32Array(rows).fill(-1);
      let [number, second, served, term] = [0, 0, 0, 0];
      const others = [];
      for (let row = 0; row < rows; row++) {
        if (kind[row] === NUMBER || kind[row] === PAIR || kind[row] === ONLY_FIRST) this.at[row] = number++;
        if (kind[row] === PAIR || kind[row] === ONLY_SECOND) this.secondAt[row] = second++;
        if (kind[row] === TEXT) others.push(row);
        if (this.server[row] && whole(columns.termed, served++)) this.termAt[row] = term++;
      }
      others.sort((a, b) => this.key[a] - this.key[b] || a - b);
      others.forEach((row, place) => { this.at[row] = place; });
      this.error = new Int32Array(rows).fill(-1);
      for (let place = 0; place < columns.failed.length; place++) {
        this.error[whole(columns.failed, place)] = whole(columns.error, place);
      }
    }

    exact(name, place) {
      const { least } = this.columns[name];
      return least === "0" ? String(this.columns[name][place]) : String(BigInt(least) + BigInt(this.columns[name][place]));
    }
    time(row) { return this.columns.time[row] + Number(this.columns.time.least); } // ns
    index(row) { return this.columns.index ? this.exact("index", row) : String(row); }
    term(row) { return this.termAt[row] < 0 ? "" : this.exact("term", this.termAt[row]); }
    who(row) { return this.process[row] === NEMESIS ? "nemesis" : this.process[row] === MONITOR ? "monitor" : this.exact("process", row); }

    // The value of an event as JSON; empty where it has none.
    value(row) {
      const number = () => this.exact("number", this.at[row]);
      const second = () => this.exact("second", this.secondAt[row]);
      switch (this.kind[row]) {
        case NUMBER: return number();
        case PAIR: return `[${number()},${second()}]`;
        case ONLY_SECOND: return `[null,${second()}]`;
        case ONLY_FIRST: return `[${number()},null]`;
        case NEITHER: return "[null,null]";
        case TEXT: return this.texts.values[this.at[row]];
        case SAME: return this.value(this.asked[row]);
        default: return "";
      }
    }

    // The line of the file that an event stood on.
    line(row) {
      const { texts } = this;
      const process = this.process[row] < 0 ? `"${this.who(row)}"` : this.who(row);
      const members = [
        `"index":${this.index(row)}`, `"time":${this.exact("time", row)}`, `"process":${process}`,
        `"type":"${TYPES[this.type[row]]}"`, `"f":${texts.functions[this.f[row]]}`,
      ];
      const value = this.value(row);
      const [key, node] = [texts.keys[this.key[row]], texts.nodes[this.node[row]]];
      if (key !== "null") members.push(`"key":${key}`);
      if (value) members.push(`"value":${value}`);
      if (node !== "null") members.push(`"node":${node}`);
      if (this.error[row] >= 0) members.push(`"error":${texts.errors[this.error[row]]}`);
      if (this.server[row]) {
        const term = this.term(row);
        members.push(`"served_by":{"node":${texts.nodes[this.server[row]]}${term ? `,"term":${term}` : ""}}`);
      }
      return `{${members.join(",")}}\n`;
    }

    // Whether a line is as the run wrote it.
    whole(row) {
      const { texts } = this;
      return ![this.value(row), texts.keys[this.key[row]], texts.functions[this.f[row]], texts.nodes[this.node[row]],
        texts.errors[this.error[row]] || ""].some(isCut);
    }

    // The row of the invocation of an operation, by its number, or that of its completion; -1 if there is none.
    find(index) {
      let row = -1;
      if (!this.columns.index) row = /^\d+$/.test(index) && Number(index) < this.rows ? Number(index) : -1;
      else for (let at = 0; at < this.rows && row < 0; at++) if (this.index(at) === index) row = at;
      return row >= 0 && this.asked[row] >= 0 ? this.asked[row] : row;
    }

    // These operations, or whatever else these rows begin, as lines of a history that `splitbrain check` reads, in pieces.
    lines(heads) {
      const rows = [];
      for (const row of heads) { rows.push(row); if (this.answer[row] >= 0) rows.push(this.answer[row]); }
      rows.sort((a, b) => a - b);
      const pieces = [];
      for (let at = 0; at < rows.length; at += 10000) {
        pieces.push(rows.slice(at, at + 10000).map((row) => {
          if (!this.whole(row)) throw new RangeError(`what event ${this.index(row)} says is cut in this page: see history.jsonl`);
          return this.line(row);
        }).join(""));
      }
      return pieces;
    }
  }

  // The numbers of a column, or one of them, with what they are less.
  function whole(numbers, place) {
    const least = Number(numbers.least);
    if (place !== undefined) return numbers[place] + least;
    return least ? numbers.map((number) => number + least) : numbers;
  }

  let opened = null;
  // The history, which is opened the first time that somebody asks.
  function history() {
    const data = document.getElementById("history-data");
    if (!data) return Promise.reject(new Error("this page does not hold the history: see history.jsonl"));
    if (!("DecompressionStream" in globalThis)) return Promise.reject(new Error("this browser cannot unpack the history: see history.jsonl"));
    opened ||= unpacked(data.textContent).then((bytes) => new History(parts(bytes)));
    return opened;
  }

  // Offers a file to whoever reads the page.
  function save(pieces, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(pieces, { type: "application/jsonl" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  Object.assign(globalThis.report, { history, save, plain, NEMESIS, MONITOR, INVOKE, TYPES });
})();
