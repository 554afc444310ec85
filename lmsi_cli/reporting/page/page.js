"use strict";
// Shows the questions of the run. All text goes in as text, never as markup.
(function () {
  const PAGE = 200;
  const at = (id) => document.getElementById(id);
  if (!at("questions")) return;
  const boxes = { search: at("search"), set: at("set"), kind: at("kind"), family: at("family"),
    order: at("order") };
  const ORDERS = {
    run: { "as in the file": null, "least agreement first": (q) => q.share, "most agreement first": (q) => -q.share,
      "longest question first": (q) => -q.question.length },
    exam: { "as in the file": null, "least agreement first": (q) => q.share, "longest question first": (q) => -q.question.length },
  };
  const packed = new Map();
  let all = [], found = [], limit = PAGE, current = -1, chunk = 0;

  function make(tag, text, kind) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  }

  async function unpack(key) {
    if (packed.has(key)) return packed.get(key);
    const box = at("blob-" + key);
    if (!box) return null;
    const bytes = Uint8Array.from(atob(box.textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const value = JSON.parse(await new Response(stream).text());
    packed.set(key, value);
    return value;
  }

  function options(box, names) {
    box.replaceChildren(...names.map((n) => make("option", n)));
    box.parentElement.hidden = names.length < 2;
  }

  function names(pick) {
    return [...new Set(all.flatMap(pick))].filter(Boolean).sort();
  }

  async function choose() {
    const set = boxes.set.selectedIndex;
    const index = await unpack("set" + set);
    all = index.rows;
    chunk = index.chunk;
    options(boxes.kind, ["all", ...names((q) => q.kinds)]);
    options(boxes.family, ["all", ...names((q) => [q.family])]);
    options(boxes.order, Object.keys(ORDERS[index.kind]));
    boxes.order.dataset.kind = index.kind;
    sift();
  }

  function fits(q, words) {
    const kind = boxes.kind.value, family = boxes.family.value;
    return (kind === "all" || q.kinds.includes(kind)) && (family === "all" || q.family === family)
      && words.every((w) => q.words.includes(w));
  }

  function sift() {
    const words = boxes.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const q of all) q.words ||= [q.id, q.question, q.winner, q.family].join(" ").toLowerCase();
    found = all.filter((q) => fits(q, words));
    const order = ORDERS[boxes.order.dataset.kind][boxes.order.value];
    if (order) found.sort((a, b) => order(a) - order(b));
    limit = PAGE;
    current = -1;
    list();
    at("detail").replaceChildren(make("p", found.length ? "Choose a question." : "No question fits."));
  }

  function list() {
    at("list").replaceChildren(...found.slice(0, limit).map(row));
    at("count").textContent = found.length + " of " + all.length + " questions";
    at("more").hidden = found.length <= limit;
  }

  function row(q, i) {
    const item = make("li"), button = make("button", q.question.slice(0, 110));
    button.type = "button";
    button.append(make("small", q.line));
    button.setAttribute("aria-current", String(i === current));
    button.addEventListener("click", () => open(i));
    item.append(button);
    return item;
  }

  async function open(i) {
    if (i < 0 || i >= found.length) return;
    if (i >= limit) { limit = i + PAGE; list(); }
    const buttons = at("list").querySelectorAll("button");
    if (buttons[current]) buttons[current].setAttribute("aria-current", "false");
    current = i;
    buttons[i].setAttribute("aria-current", "true");
    buttons[i].scrollIntoView({ block: "nearest" });
    const q = found[i];
    const texts = await unpack("set" + boxes.set.selectedIndex + "-" + Math.floor(q.n / chunk));
    if (found[current] === q) show(q, texts ? texts[q.n % chunk] : []);
  }

  function show(q, paths) {
    const parts = [make("h3", q.id), make("p", q.question, "question"), make("p", q.line)];
    if (q.ballots) parts.push(ballots(q.ballots));
    for (const p of paths) parts.push(make("h4", p.line), path(p));
    at("detail").replaceChildren(...parts);
    at("detail").scrollTop = 0;
  }

  function ballots(counts) {
    const table = make("table"), most = Math.max(...counts.map((b) => b[1]));
    table.append(make("caption", "Ballots"));
    for (const [answer, count] of counts) {
      const line = table.insertRow(), head = make("th", answer), bar = make("span", "", "share");
      head.scope = "row";
      bar.style.width = 12 * count / most + "rem";
      line.append(head, make("td", String(count)), make("td"));
      line.lastChild.append(bar);
    }
    return table;
  }

  function path(p) {
    const box = make("p", undefined, p.kept ? "path kept" : "path");
    if (p.start === null || p.start === undefined) { box.textContent = p.text; return box; }
    box.append(p.text.slice(0, p.start), make("mark", p.text.slice(p.start, p.end)), p.text.slice(p.end));
    return box;
  }

  function key(event) {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "Escape" && event.target === boxes.search) boxes.search.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { event.preventDefault(); boxes.search.focus(); }
    if (event.key === "j") open(current + 1);
    if (event.key === "k") open(Math.max(0, current - 1));
  }

  at("filters").addEventListener("submit", (event) => event.preventDefault());
  boxes.search.addEventListener("input", sift);
  for (const name of ["kind", "family", "order"]) boxes[name].addEventListener("change", sift);
  boxes.set.addEventListener("change", choose);
  boxes.set.parentElement.hidden = boxes.set.options.length < 2;
  at("more").addEventListener("click", () => { limit += PAGE; list(); });
  document.addEventListener("keydown", key);
  choose().catch((error) => {
    at("count").textContent = "These questions cannot be shown by this browser: " + error.message;
  });
})();
