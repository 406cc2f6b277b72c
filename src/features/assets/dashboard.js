"use strict";
// Everything from the corpus is put on the page by `textContent` or as an attribute's text, never as markup.
(() => {
  const started = performance.now();
  const $ = (id) => document.getElementById(id);
  const NONE = 0xffffffff;
  const ROW = 46;

  // --- data ---------------------------------------------------------------------------------------------------------

  const bytesOf = (text) => {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
    return bytes;
  };
  // Of a page in a folder, shards are scripts that hand themselves over; those on their way, by number.
  const wanted = new Map();
  window.__shard = (number, text) => wanted.get(number)?.resolve(text);
  const loaded = (number) => {
    if (!wanted.has(number)) {
      const script = document.createElement("script"), way = {};
      way.promise = new Promise((resolve, reject) => {
        way.resolve = resolve;
        script.addEventListener("error", () => reject(new Error(`data/s${number}.js is not beside it`)));
        // It would have handed itself over by now.
        script.addEventListener("load", () => reject(new Error(`data/s${number}.js is damaged`)));
      });
      const done = () => {
        wanted.delete(number);
        script.remove();
      };
      way.promise.then(done, done);
      wanted.set(number, way);
      script.src = `data/s${number}.js`;
      document.head.append(script);
    }
    return wanted.get(number).promise;
  };
  const unpacked = async (id, text = $(id).textContent) => {
    const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  let about, columns = {}, widths = {}, vocabulary = [], lower = [];

  const readIndex = (bytes) => {
    let at = 0;
    for (const [name, type, width] of about.columns) {
      const count = width * about.latents;
      columns[name] = new (type === "f32" ? Float32Array : Uint32Array)(bytes.buffer, at, count);
      widths[name] = width;
      at += 4 * count;
    }
    columns.density = Float32Array.from(columns.firings, (n) => n / about.tokens);
    columns.latent = Uint32Array.from({ length: about.latents }, (_, at) => at);
  };
  const readVocabulary = (bytes) => {
    const count = about.vocabulary;
    const lengths = new Uint32Array(bytes.buffer, 0, count);
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    let at = 4 * count;
    for (let id = 0; id < count; id++) {
      vocabulary.push(decoder.decode(bytes.subarray(at, at + lengths[id])));
      at += lengths[id];
    }
    lower = vocabulary.map((text) => text.toLowerCase());
  };
  const list = (name, latent) => {
    const width = widths[name];
    return columns[name].subarray(latent * width, (latent + 1) * width);
  };

  // A shard is kept as bytes with the place of each of its latents.
  let shard = { number: -1 };
  const readShard = async (number) => {
    if (shard.number === number) return shard;
    const id = `shard-${number}`;
    const bytes = await (about.folder ? unpacked(id, await loaded(number)) : unpacked(id));
    const view = new DataView(bytes.buffer);
    const places = [];
    const head = 12 * about.strata + 4 * about.bins;
    let at = 0;
    while (at < bytes.length) {
      places.push(at);
      const windows = view.getUint32(at, true);
      at += 4 + (windows > 0 ? head : 0);
      for (let i = 0; i < windows; i++) at += 11 + bytes[at + 2] * (about.id_bytes + 1);
    }
    shard = { number, bytes, view, places };
    return shard;
  };
  const readLatent = async (latent) => {
    const { bytes, view, places } = await readShard(Math.floor(latent / about.shard));
    let at = places[latent % about.shard];
    const count = view.getUint32(at, true);
    at += 4;
    if (count === 0) return null;
    const strata = [], histogram = [], windows = [];
    for (let i = 0; i < about.strata; i++, at += 12) {
      strata.push({ events: view.getUint32(at, true), mass: view.getFloat32(at + 4, true), low: view.getFloat32(at + 8, true) });
    }
    for (let i = 0; i < about.bins; i++, at += 4) histogram.push(view.getUint32(at, true));
    for (let i = 0; i < count; i++) {
      const [kind, focus, length] = bytes.subarray(at, at + 3);
      const context = view.getUint32(at + 3, true), first = view.getUint32(at + 7, true);
      at += 11;
      const ids = [];
      for (let t = 0; t < length; t++, at += about.id_bytes) {
        ids.push(about.id_bytes === 2 ? view.getUint16(at, true) : view.getUint32(at, true));
      }
      windows.push({ kind, focus, context, first, ids, parts: bytes.subarray(at, at + length) });
      at += length;
    }
    return { strata, histogram, windows };
  };

  // --- text ---------------------------------------------------------------------------------------------------------

  const LONG = 80;
  // What would change how its surroundings are shown is named instead: controls, marks of direction, what has no width.
  const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
  const readable = (text) => {
    const named = text.replace(UNSEEN, (c) => `[U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);
    const seen = named.replace(/\n/g, "⏎").replace(/\t/g, "⇥");
    return seen.length > LONG ? `${seen.slice(0, LONG)}… (${text.length} characters)` : seen;
  };
  const textOf = (id) => readable(vocabulary[id] ?? `<${id}>`);
  const make = (tag, text, name) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (name) node.className = name;
    return node;
  };
  const token = (id) => {
    const node = make("span", textOf(id).replace(/^ /, "␣"), "token");
    node.title = `token ${id}`;
    return node;
  };
  const number = (value, digits = 3) => {
    if (value === undefined || Number.isNaN(value)) return "—";
    if (Number.isInteger(value)) return value.toLocaleString("en");
    const size = Math.abs(value);
    return size < 1e-3 || size >= 1e6 ? value.toExponential(2) : value.toPrecision(digits);
  };
  const percent = (value) => (Number.isNaN(value) ? "—" : `${number(100 * value)} %`);

  // --- list ---------------------------------------------------------------------------------------------------------

  const SORTS = [
    ["latent", "number"], ["density", "density"], ["max", "largest activation"], ["mean", "mean activation"],
    ["token_entropy", "token entropy"], ["purity", "purity"], ["eta2_token", "η² current token"], ["eta2_previous", "η² previous token"],
    ["eta2_position", "η² position"], ["eta2_document", "η² document"], ["input_score", "input score"], ["output_score", "output score"],
    ["detection_tokens", "explained by tokens (AUROC)"], ["detection_ngrams", "explained by sequences (AUROC)"],
    ["detection_keywords", "explained by keywords (AUROC)"], ["detection_rule", "explained by a rule (AUROC)"],
    ["partner_jaccard", "co-firing (Jaccard)"], ["encoder_decoder_cosine", "encoder–decoder cosine"], ["delta_ce", "ΔCE of ablation"],
    ["delta_kl", "ΔKL of ablation"],
  ];
  const FILTERS = [["", "all"], ["alive", "alive"], ["dead", "never firing"], ...SORTS.slice(1)];
  const state = { latent: 0, q: "", sort: "latent", down: false, only: "", low: "", high: "" };
  let shown = [], current = -1;

  const matches = () => {
    const query = state.q.trim().toLowerCase();
    const keep = new Uint8Array(about.latents).fill(1);
    if (query !== "") {
      const hit = Uint8Array.from(lower, (text) => (text.includes(query) ? 1 : 0));
      const [read, written, width] = [columns.in, columns.out, widths.in];
      for (let latent = 0; latent < about.latents; latent++) {
        let found = String(latent) === query;
        for (let at = latent * width; !found && at < (latent + 1) * width; at++) {
          found = (read[at] !== NONE && hit[read[at]] === 1) || (written[at] !== NONE && hit[written[at]] === 1);
        }
        keep[latent] = found ? 1 : 0;
      }
    }
    const { only } = state;
    const [low, high] = [state.low, state.high].map((text) => (text === "" ? NaN : Number(text)));
    if (only === "alive" || only === "dead") {
      for (let i = 0; i < keep.length; i++) if ((columns.firings[i] > 0) !== (only === "alive")) keep[i] = 0;
    } else if (only !== "") {
      const values = columns[only];
      for (let i = 0; i < keep.length; i++) {
        if (Number.isNaN(values[i]) || values[i] < low || values[i] > high) keep[i] = 0;
      }
    }
    const values = columns[state.sort], sign = state.down ? -1 : 1;
    // What has no value comes last either way.
    const order = (a, b) => {
      const [x, y] = [values[a], values[b]];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a - b;
      return sign * (x - y) || a - b;
    };
    const found = [];
    for (let i = 0; i < keep.length; i++) if (keep[i]) found.push(i);
    return state.sort === "latent" && !state.down ? found : found.sort(order);
  };
  const update = () => {
    const began = performance.now();
    shown = matches();
    document.documentElement.dataset.searched = (performance.now() - began).toFixed(1);
    current = shown.indexOf(state.latent);
    $("count").textContent = `${shown.length.toLocaleString("en")} of ${about.latents.toLocaleString("en")} latents`;
    $("rows").style.height = `${shown.length * ROW}px`;
    $("list").scrollTop = Math.max(0, current * ROW - $("list").clientHeight / 2);
    drawList();
  };
  const drawList = () => {
    const top = $("list").scrollTop;
    const first = Math.max(0, Math.floor(top / ROW) - 4);
    const last = Math.min(shown.length, first + Math.ceil($("list").clientHeight / ROW) + 8);
    const rows = [];
    for (let at = first; at < last; at++) {
      const latent = shown[at], row = make("div", undefined, "latent"), head = make("div");
      row.style.top = `${at * ROW}px`;
      row.dataset.latent = latent;
      row.setAttribute("role", "option");
      row.setAttribute("aria-selected", String(latent === state.latent));
      const of = state.sort === "latent" ? percent(columns.density[latent]) : number(columns[state.sort][latent]);
      head.append(make("span", String(latent)), make("span", columns.firings[latent] === 0 ? "never fires" : of));
      const read = [...list("in", latent)].filter((id) => id !== NONE).slice(0, 5);
      const label = make("small");
      read.forEach((id, at) => label.append(at > 0 ? " · " : "", make("bdi", textOf(id))));
      row.append(head, label);
      rows.push(row);
    }
    $("rows").replaceChildren(...rows);
  };

  // --- a latent -----------------------------------------------------------------------------------------------------

  const table = (rows) => {
    const node = make("table");
    for (const [label, value, title] of rows) {
      const row = make("tr"), head = make("th"), cell = make("td", undefined);
      head.append(label);
      cell.append(value);
      if (title) row.title = title;
      row.append(head, cell);
      node.append(row);
    }
    return node;
  };
  const link = (latent, text) => {
    const node = make("a", text ?? String(latent));
    node.href = `#latent=${latent}`;
    return node;
  };
  const panel = (title, ...content) => {
    const node = make("section");
    node.append(make("h2", title), ...content);
    return node;
  };
  const svg = (tag, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const bars = (histogram, max) => {
    const [width, height] = [400, 100], top = Math.max(...histogram.map((n) => Math.log1p(n)));
    const node = svg("svg", { viewBox: `0 0 ${width} ${height + 16}`, role: "img", "aria-label": "Histogram of activations" });
    const step = width / histogram.length;
    histogram.forEach((n, at) => {
      const size = top > 0 ? (Math.log1p(n) / top) * height : 0;
      const bar = svg("rect", { x: at * step, y: height - size, width: step - 1, height: size });
      const [from, to] = [at, at + 1].map((edge) => number((max * edge) / histogram.length));
      bar.append(svg("title", {}, `${n.toLocaleString("en")} firings from ${from} to ${to}`));
      node.append(bar);
    });
    node.append(svg("text", { x: 0, y: height + 13 }, "0"), svg("text", { x: width, y: height + 13, "text-anchor": "end" }, number(max)));
    return node;
  };
  const context = (window, max) => {
    const node = make("div", undefined, "context"), text = make("div", undefined, "text");
    const strength = window.parts.reduce((a, b) => Math.max(a, b), 0);
    const where = make("div", `${number((max * window.parts[window.focus]) / 255)}`, "where");
    where.append(make("br"), `context ${window.context}, ${window.first + window.focus}`);
    if (window.first > 0) text.append(make("span", "…", "cut"));
    window.ids.forEach((id, at) => {
      const part = window.parts[at], span = make("span", textOf(id));
      if (part > 0) {
        span.style.backgroundColor = `rgba(var(--heat), ${(0.08 + (0.62 * part) / 255).toFixed(3)})`;
        span.className = part > 127 ? "much" : "some";
        // One part in 255 of the largest is how exactly it is known.
        span.title = `${number((max * part) / 255)} ± ${number(max / 510, 1)} · token ${id}`;
      } else {
        span.title = `silent · token ${id}`;
      }
      if (at === window.focus) span.classList.add("focus");
      text.append(span);
    });
    if (window.first + window.ids.length < about.context_size) text.append(make("span", "…", "cut"));
    node.append(where, text);
    node.dataset.strength = strength;
    return node;
  };
  const eta = (name, latent) =>
    `${number(columns[`eta2_${name}`][latent])} (ε² ${number(columns[`eps2_${name}`][latent])})`;

  // The contexts of a latent, group by group: each a function that builds the group's title and contexts.
  const groupsOf = (latent, found) => {
    const c = (name) => columns[name][latent], max = c("magnitude"), last = about.strata;
    const group = (kind, title, note) => () => {
      const windows = found.windows.filter((window) => window.kind === kind);
      const head = make("h2", `${title} `);
      head.append(make("small", note(windows.length)));
      return [head, ...(windows.length === 0 ? [make("p", "None was found.", "note")] : windows.map((window) => context(window, max)))];
    };
    const strata = found.strata.flatMap(({ events, mass, low }, at) => {
      const says = (count) => `${count} of ${events.toLocaleString("en")} firings from ${number(low)} up, with ${percent(mass)} of the activation`;
      return events === 0 ? [] : [group(at + 1, `Stratum ${at + 1} of ${last}`, says)];
    });
    return [
      group(0, "Largest activations", () => "at most one per document"),
      ...strata,
      group(last + 1, "Near misses", () => `the least of ${number(c("firings"))} firings`),
      group(last + 2, "Silent", () => "it does not fire in these, which contain its top token"),
    ];
  };

  let shows = 0;
  const show = async (latent) => {
    const began = performance.now(), ticket = ++shows;
    const found = await readLatent(latent).catch((error) => {
      if (ticket === shows) {
        $("main").replaceChildren(make("p", `Latent ${latent} can't be shown: ${error.message}.`));
        document.title = `${latent} · ${about.title}`;
        document.documentElement.dataset.latent = String(latent);
      }
      throw error;
    });
    if (ticket !== shows) return;
    const c = (name) => columns[name][latent];
    const main = $("main"), parts = [];
    parts.push(make("h1", `Latent ${latent}`));
    if (found === null) {
      parts.push(make("p", `It never fires on these ${about.tokens.toLocaleString("en")} tokens; its density is below ${percent(c("density_high"))} at 95 %.`));
    }
    const scores = table([
      ["density", `${percent(c("density"))} [${percent(c("density_low"))}, ${percent(c("density_high"))}]`, "Share of tokens on which it fires, with Wilson's 95 % interval as if tokens were independent"],
      ["firings", number(c("firings"))],
      ["largest, mean", `${number(c("max"))}, ${number(c("mean"))}`],
      ["token entropy", `${number(c("token_entropy"))} bits`, "Entropy of the token ids, weighted by activation"],
      ["purity", number(c("purity")), "Share of the activation on the top token id"],
      ["η² current token", eta("token", latent), "Share of the variance over all tokens; ε² is 0 by chance"],
      ["η² previous token", eta("previous", latent), "Share of the variance over all tokens; ε² is 0 by chance"],
      ["η² position", eta("position", latent), "Share of the variance over all tokens; ε² is 0 by chance"],
      ["η² document", eta("document", latent), "Share of the variance over all tokens; ε² is 0 by chance"],
      ["input score", number(c("input_score")), "Share of its largest contexts that peak on a token it writes (Arad et al. 2025)"],
      ["output score", number(c("output_score")), "How much of what it writes the model predicts where it is made very active (Arad et al. 2025)"],
      ["ΔCE, ΔKL per firing", `${number(c("delta_ce"))}, ${number(c("delta_kl"))} nats`, "What the context's loss rises by without it, and the divergence, per firing"],
      ["encoder–decoder cosine", number(c("encoder_decoder_cosine"))],
    ]);
    const pairs = (name, values, of) => {
      const ids = list(name, latent), numbers = list(values, latent), rows = [];
      ids.forEach((id, at) => {
        if (id !== NONE) rows.push([of(id), number(numbers[at])]);
      });
      return rows.length > 0 ? table(rows) : make("p", "none", "note");
    };
    const methods = [["tokens", "tokens"], ["ngrams", "sequences"], ["keywords", "keywords"], ["written", "what it writes"], ["rule", "a rule"]];
    const detected = methods.filter(([name]) => !Number.isNaN(c(`detection_${name}`))).map(([name, label]) => [
      label,
      `${number(c(`detection_${name}`))} (another's ${number(c(`other_${name}`))})`,
      "AUROC of held-out windows by an explanation of this kind, and by that of a latent drawn at random; 0.5 is chance",
    ]);
    const near = [panel("Nearest decoder rows (cosine)", pairs("near", "near_cosine", (id) => link(id)))];
    if (c("partner") !== NONE) {
      near.push(panel("Fires most where it does (Jaccard)", table([[link(c("partner")), number(c("partner_jaccard"))]])));
    }
    const panels = make("div", undefined, "panels");
    panels.append(panel("Scores", scores));
    if (found !== null) panels.append(panel("Activations (log scale)", bars(found.histogram, c("magnitude"))));
    panels.append(panel("Tokens it fires on (share)", pairs("in", "in_share", token)), panel("Tokens it writes (logit)", pairs("out", "out_logit", token)), ...near);
    if (detected.length > 0) panels.append(panel("Detected by its explanation (AUROC)", table(detected)));
    parts.push(panels);
    // The largest contexts fill the first screen; what is below it is built after that is painted.
    const groups = found === null ? [] : groupsOf(latent, found);
    if (groups.length > 0) parts.push(...groups[0]());
    main.replaceChildren(...parts);
    main.scrollTop = 0;
    document.title = `${latent} · ${about.title}`;
    document.documentElement.dataset.latent = String(latent);
    document.documentElement.dataset.shown = (performance.now() - began).toFixed(1);
    requestAnimationFrame(() => setTimeout(() => {
      if (ticket !== shows) return;
      document.documentElement.dataset.painted = performance.now().toFixed(1);
      main.append(...groups.slice(1).flatMap((group) => group()), panel("What this is", table(about.about)));
      document.documentElement.dataset.whole = String(latent);
    }, 0));
  };

  // --- address and input --------------------------------------------------------------------------------------------

  const readHash = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    const latent = Number(given.get("latent") ?? state.latent);
    state.latent = Number.isInteger(latent) && latent >= 0 && latent < about.latents ? latent : 0;
    if (given.has("q")) state.q = given.get("q");
    if (SORTS.some(([name]) => name === given.get("sort"))) state.sort = given.get("sort");
    if (given.has("down")) state.down = given.get("down") === "1";
    if (FILTERS.some(([name]) => name === given.get("only"))) state.only = given.get("only");
    const limit = (name, before) => (given.has(name) && Number.isFinite(Number(given.get(name))) ? given.get(name) : before);
    [state.low, state.high] = [limit("from", state.low), limit("to", state.high)];
  };
  const writeHash = () => {
    const say = new URLSearchParams({ latent: state.latent });
    if (state.q !== "") say.set("q", state.q);
    if (state.sort !== "latent") say.set("sort", state.sort);
    if (state.down) say.set("down", "1");
    if (state.only !== "") say.set("only", state.only);
    if (state.low !== "") say.set("from", state.low);
    if (state.high !== "") say.set("to", state.high);
    history.replaceState(null, "", `#${say}`);
  };
  const fill = () => {
    $("search").value = state.q;
    $("sort").value = state.sort;
    $("filter").value = state.only;
    $("low").value = state.low;
    $("high").value = state.high;
    $("direction").textContent = state.down ? "↓ falling" : "↑ rising";
  };
  const go = (latent) => {
    state.latent = latent;
    current = shown.indexOf(latent);
    writeHash();
    const at = current * ROW, box = $("list");
    if (current >= 0 && (at < box.scrollTop || at + ROW > box.scrollTop + box.clientHeight)) box.scrollTop = at - box.clientHeight / 2;
    drawList();
    return show(latent);
  };
  const step = (by) => {
    if (shown.length > 0) go(shown[current < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, current + by))]);
  };
  const changed = () => {
    Object.assign(state, { q: $("search").value, sort: $("sort").value, only: $("filter").value, low: $("low").value, high: $("high").value });
    fill();
    writeHash();
    update();
  };
  const listen = () => {
    for (const [select, options] of [["sort", SORTS], ["filter", FILTERS]]) {
      for (const [value, text] of options) {
        const option = make("option", text);
        option.value = value;
        $(select).append(option);
      }
    }
    $("controls").addEventListener("input", changed);
    $("controls").addEventListener("submit", (event) => {
      event.preventDefault();
      step(0);
      $("list").focus();
    });
    $("direction").addEventListener("click", () => {
      state.down = !state.down;
      changed();
    });
    $("list").addEventListener("scroll", drawList);
    window.addEventListener("resize", drawList);
    $("rows").addEventListener("click", (event) => {
      const row = event.target.closest(".latent");
      if (row) go(Number(row.dataset.latent));
    });
    window.addEventListener("hashchange", () => {
      const before = JSON.stringify({ ...state, latent: 0 });
      readHash();
      // A link to another latent leaves the list as it is.
      if (JSON.stringify({ ...state, latent: 0 }) === before) {
        go(state.latent);
        return;
      }
      fill();
      update();
      show(state.latent);
    });
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.matches("input, select")) {
        if (event.key === "Escape") $("list").focus();
        return;
      }
      const by = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
      if (by !== undefined) step(by);
      else if (event.key === "/") $("search").focus();
      else return;
      event.preventDefault();
    });
  };

  const start = async () => {
    about = JSON.parse(new TextDecoder().decode(await unpacked("about")));
    const [index, words] = await Promise.all([unpacked("index"), unpacked("vocabulary")]);
    readIndex(index);
    readVocabulary(words);
    listen();
    readHash();
    fill();
    update();
    document.documentElement.dataset.listed = "yes";
    await show(state.latent);
    document.documentElement.dataset.ready = (performance.now() - started).toFixed(0);
    document.documentElement.dataset.opened = performance.now().toFixed(0);
  };
  start().catch((error) => {
    if (!document.documentElement.dataset.listed) $("main").replaceChildren(make("p", `This page can't be shown: ${error.message}. It needs a browser of 2023 or newer.`));
    throw error;
  });
})();
