"use strict";

// The examples that page.py packed, drawn by plotly.js. Texts of users reach the page as
// textContent alone, never as HTML nor as plotly's texts, which read some of it.

const element = (id) => document.getElementById(id);
const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const floats = (text) => new Float32Array(bytes(text).buffer);
const integers = (text) => new Int32Array(bytes(text).buffer);
const count = (number) => number.toLocaleString("en");

const MARKS = { circle: "●", diamond: "◆", "triangle-up": "▲", square: "■", x: "✖\uFE0E" };
const NUM_FOUND = 20;
// Without WebGL every point is an element of the page; so many stay responsive.
const MAX_ELEMENTS = 3000;
const isTouch = matchMedia("(pointer: coarse)").matches;
const isNarrow = matchMedia("(max-width: 60rem)");
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");

function hasWebgl() {
  const context = document.createElement("canvas").getContext("webgl");
  // What plotly.js asks of it for points.
  const extensions = ["ANGLE_instanced_arrays", "OES_element_index_uint"];
  return Boolean(context && extensions.every((name) => context.getExtension(name)));
}

function make(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

function fill(select, names) {
  select.replaceChildren(...names.map((name) => new Option(name, name)));
}

async function unpack() {
  const packed = new Blob([bytes(element("data").textContent)]).stream();
  return new Response(packed.pipeThrough(new DecompressionStream("deflate"))).json();
}

function show(data) {
  const plot = element("plot");
  const num = data.ids.length;
  const type = hasWebgl() ? "scattergl" : "scatter";
  const neighbours = integers(data.neighbours);
  const maps = data.maps.map((map) => ({ ...map, x: floats(map.x), y: floats(map.y) }));
  const groups = Object.fromEntries(
    Object.entries(data.groups).map(([name, { names, codes }]) => [
      name, { names, codes: integers(codes) },
    ]),
  );
  const texts = data.ids.map((id, i) =>
    [id, groupOf("task", i), data.inputs[i], data.targets[i], data.predictions[i]]
      .join("\n").toLowerCase(),
  );
  const hidden = new Set();
  let plotted = []; // the examples of the points of the map
  let chosen = null;

  function groupOf(name, i) {
    return groups[name].names[groups[name].codes[i]];
  }

  // Scattered, the same at every visit: no group hides the others by being drawn last.
  const scattered = (i) => (i * 0.6180339887) % 1;
  const order = [...data.ids.keys()].sort((a, b) => scattered(a) - scattered(b));
  if (type === "scatter") order.splice(MAX_ELEMENTS);

  function colours() {
    const body = getComputedStyle(document.body);
    return {
      ink: body.color,
      line: getComputedStyle(plot).borderTopColor,
      font: { color: body.color, family: body.fontFamily, size: 13 },
    };
  }

  function layoutWith(extra) {
    const { line, font } = colours();
    const axis = { gridcolor: line, zeroline: false, automargin: true };
    return {
      autosize: true, font, showlegend: false, margin: { l: 60, r: 15, t: 15, b: 55 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", ...extra,
      xaxis: { ...axis, ...extra.xaxis }, yaxis: { ...axis, ...extra.yaxis },
    };
  }

  // A group keeps its look on every map; if there are more than looks, the rare ones share one.
  function looks(names, counts) {
    const last = data.colours.length * data.shapes.length - 1;
    const lookOf = names.map((_, code) => code);
    if (names.length > last) {
      const order = [...lookOf].sort((a, b) => counts[b] - counts[a]);
      order.forEach((code, rank) => (lookOf[code] = Math.min(rank, last)));
    }
    const made = [];
    lookOf.forEach((look, code) => {
      if (!counts[code]) return;
      const isShared = names.length > last && look === last;
      made[look] ??= { name: isShared ? "other" : names[code], rows: [], look };
    });
    return { lookOf, made };
  }

  function grouped(map) {
    const { names, codes } = groups[element("colour").value];
    const task = element("task").selectedIndex - 1; // the first option is all of them
    const rows = [];
    const counts = new Uint32Array(names.length);
    for (let i = 0; i < num; i++) {
      if (Number.isNaN(map.x[i]) || (task >= 0 && groups.task.codes[i] !== task)) continue;
      rows.push(i);
      counts[codes[i]]++;
    }
    const { lookOf, made } = looks(names, counts);
    rows.forEach((i) => made[lookOf[codes[i]]].rows.push(i));
    return made.filter(Boolean);
  }

  function draw() {
    const [features, projection] = [element("features").value, element("projection").value];
    const map = maps.find((m) => m.features === features && m.projection === projection);
    const { ink } = colours();
    const shown = grouped(map);
    const points = (rows, marker) => ({
      type, mode: "markers", hoverinfo: "none", marker,
      x: Float32Array.from(rows, (i) => map.x[i]), y: Float32Array.from(rows, (i) => map.y[i]),
    });
    const rings = (rows, size, width) => ({
      ...points(rows, { size, symbol: "circle-open", color: ink, line: { width } }),
      hoverinfo: "skip",
    });
    const lookOf = new Map();
    shown.forEach(({ name, rows, look }) => {
      if (!hidden.has(name)) rows.forEach((i) => lookOf.set(i, look));
    });
    plotted = order.filter((i) => lookOf.has(i));
    const traces = [
      points(plotted, {
        color: plotted.map((i) => data.colours[lookOf.get(i) % data.colours.length]),
        symbol: plotted.map((i) => data.shapes[Math.floor(lookOf.get(i) / data.colours.length)]),
        size: num > 5000 ? 5 : 8, opacity: 0.8,
      }),
    ];
    const isOn = (i) => !Number.isNaN(map.x[i]);
    if (chosen !== null) {
      traces.push(rings(nearest(chosen).filter(isOn), 12, 1.5), rings([chosen].filter(isOn), 18, 3));
    }
    drawLegend(shown);
    const numOn = map.x.filter((x) => !Number.isNaN(x)).length;
    const notes = [];
    if (numOn < num) {
      notes.push(`${projection} shows ${count(numOn)} of the ${count(num)} examples, drawn at random.`);
    }
    if (type === "scatter" && num > MAX_ELEMENTS) {
      notes.push(`This browser has no WebGL: about ${count(MAX_ELEMENTS)} of the points are drawn.`);
    }
    if (chosen !== null && !isOn(chosen)) notes.push("The chosen example is not on this map.");
    element("left-out").textContent = notes.join(" ");
    const title = (n) => ({ text: `${projection} ${n} of ${features} (no unit)`, standoff: 8 });
    return Plotly.react(
      plot, traces,
      layoutWith({
        hovermode: "closest", hoverdistance: 15, uirevision: `${features} ${projection}`,
        // Dragging a finger scrolls the page; buttons zoom.
        dragmode: isTouch ? false : "zoom",
        xaxis: { title: title(1) }, yaxis: { title: title(2), scaleanchor: "x" },
      }),
      { responsive: true, displayModeBar: false },
    );
  }

  function drawLegend(shown) {
    const buttons = shown.map(({ name, look, rows }) => {
      const button = make("button");
      const mark = make("span", MARKS[data.shapes[Math.floor(look / data.colours.length)]], "mark");
      mark.style.color = data.colours[look % data.colours.length];
      mark.setAttribute("aria-hidden", "true");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!hidden.has(name)));
      button.append(mark, make("span", name), make("small", count(rows.length)));
      button.onclick = () => {
        if (!hidden.delete(name)) hidden.add(name);
        draw();
        element("legend").querySelectorAll("button")[shown.findIndex((g) => g.name === name)].focus();
      };
      const item = make("li");
      item.append(button);
      return item;
    });
    element("legend").replaceChildren(...buttons);
    element("all").onclick = () => { hidden.clear(); draw(); };
    element("none").onclick = () => { shown.forEach(({ name }) => hidden.add(name)); draw(); };
  }

  function nearest(i) {
    return Array.from(neighbours.subarray(i * data.k, (i + 1) * data.k));
  }

  const verdict = (i) => (groupOf("correctness", i) === "correct" ? "✓ correct" : "✗ wrong");

  function facts(i) {
    const rows = {
      task: groupOf("task", i), input: data.inputs[i], target: data.targets[i],
      prediction: `${data.predictions[i]}\n${verdict(i)}`,
    };
    return Object.entries(rows).flatMap(([name, text]) => [make("dt", name), make("dd", text)]);
  }

  function card(i) {
    const button = make("button");
    button.type = "button";
    const answer = `target: ${data.targets[i]} · prediction: ${data.predictions[i]} · ${verdict(i)}`;
    button.append(
      make("strong", `${data.ids[i]} · ${groupOf("task", i)}`),
      make("span", data.inputs[i]), make("small", answer),
    );
    button.onclick = () => { choose(i); element("chosen").focus(); };
    const item = make("li");
    item.append(button);
    return item;
  }

  function choose(i) {
    chosen = i;
    const others = nearest(i);
    const same = (name) => others.filter((j) => groupOf(name, j) === groupOf(name, i)).length;
    element("hint").hidden = true;
    element("chosen").textContent = `Example ${data.ids[i]}`;
    element("example").replaceChildren(...facts(i));
    element("agreement").textContent =
      `Of its ${others.length} nearest neighbours by ${data.neighbours_by}, ${same("task")} are of the same ` +
      `task, ${same("label")} have the same label, ${same("output type")} the same output type:`;
    element("neighbours").replaceChildren(...others.map(card));
    draw();
  }

  function search() {
    const wanted = element("search").value.trim().toLowerCase();
    const found = [];
    if (wanted) texts.forEach((text, i) => { if (text.includes(wanted)) found.push(i); });
    const first = found.slice(0, NUM_FOUND);
    element("results").replaceChildren(...first.map(card));
    const rest = found.length > first.length ? `, the first ${first.length} of them here` : "";
    element("found").textContent = wanted ? `${count(found.length)} examples found${rest}.` : "";
  }

  function hover({ points, event }) {
    const i = points[0].curveNumber === 0 ? plotted[points[0].pointNumber] : undefined;
    if (i === undefined || isTouch) return;
    const tip = element("tip");
    const list = make("dl");
    list.append(...facts(i));
    tip.replaceChildren(make("strong", data.ids[i]), list);
    tip.hidden = false;
    const place = (at, size, room) => `${Math.max(8, at + size + 24 > room ? at - size - 16 : at + 16)}px`;
    tip.style.left = place(event.clientX, tip.offsetWidth, innerWidth);
    tip.style.top = place(event.clientY, tip.offsetHeight, innerHeight);
  }

  function zoom(factor) {
    const around = ([low, high]) => {
      const [middle, half] = [(low + high) / 2, ((high - low) / 2) * factor];
      return [middle - half, middle + half];
    };
    const { xaxis, yaxis } = plot.layout;
    Plotly.relayout(plot, { "xaxis.range": around(xaxis.range), "yaxis.range": around(yaxis.range) });
  }

  function drawBars() {
    document.querySelectorAll(".shares").forEach((bars) => {
      const { layers, shares } = data.variances[bars.dataset.side];
      const traces = shares.map((share, s) => ({
        type: "bar", x: layers, y: share, name: data.shares[s].name,
        hovertemplate: "layer %{x}: %{y:.1f} %<extra>%{fullData.name}</extra>",
        marker: { color: data.shares[s].colour },
      }));
      const title = (text) => ({ title: { text, standoff: 8 } });
      Plotly.react(
        bars, traces,
        layoutWith({
          barmode: "stack", dragmode: false,
          xaxis: { ...title("layer"), tickformat: "d", fixedrange: true },
          yaxis: { ...title("share of the variance (%)"), range: [0, 100], fixedrange: true },
        }),
        { responsive: true, displayModeBar: false },
      );
    });
  }

  function drawAll() {
    drawBars();
    return draw();
  }

  function isDark() {
    const choice = document.documentElement.style.colorScheme;
    return choice ? choice === "dark" : systemIsDark.matches;
  }

  const nameTheme = () => element("theme").setAttribute("aria-pressed", String(isDark()));
  element("theme").onclick = () => {
    document.documentElement.style.colorScheme = isDark() ? "light" : "dark";
    nameTheme();
    drawAll();
  };
  systemIsDark.addEventListener("change", () => { nameTheme(); drawAll(); });
  nameTheme();

  const features = [...new Set(maps.map((map) => map.features))];
  fill(element("features"), features);
  if (features.includes("condition")) element("features").value = "condition";
  const projections = [...new Set(maps.map((map) => map.projection))];
  fill(element("projection"), projections);
  // It shows groups best; colours are tasks, the first of groups.
  if (projections.includes("t-SNE")) element("projection").value = "t-SNE";
  fill(element("colour"), Object.keys(groups));
  fill(element("task"), ["all tasks", ...groups.task.names]);
  ["features", "projection"].forEach((id) => (element(id).onchange = draw));
  ["colour", "task"].forEach((id) => (element(id).onchange = () => { hidden.clear(); draw(); }));
  element("nearer").onclick = () => zoom(0.5);
  element("farther").onclick = () => zoom(2);
  element("whole").onclick = () =>
    Plotly.relayout(plot, { "xaxis.autorange": true, "yaxis.autorange": true });
  element("search").oninput = search;
  element("search-form").onsubmit = (event) => {
    event.preventDefault();
    element("results").querySelector("button")?.click();
  };

  return drawAll().then(() => {
    plot.on("plotly_hover", hover);
    plot.on("plotly_unhover", () => (element("tip").hidden = true));
    plot.on("plotly_click", ({ points }) => {
      const i = points[0].curveNumber === 0 ? plotted[points[0].pointNumber] : undefined;
      if (i === undefined) return;
      element("tip").hidden = true;
      choose(i);
      if (isNarrow.matches) element("chosen").scrollIntoView({ block: "start" });
    });
    document.querySelector("main").setAttribute("aria-busy", "false");
    document.body.dataset.readyMillis = Math.round(performance.now());
  });
}

unpack().then(show).catch((error) => {
  element("failure").textContent = `This browser could not draw the page (${error}); one of 2024 or later can.`;
  element("failure").hidden = false;
  throw error;
});
