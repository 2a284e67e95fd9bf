"use strict";
/* The charts (Observable Plot), the sorting of tables and the slider of a comparison's page. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const signed = (value) => (Math.abs(value) < 0.05 ? "0.0" : (value > 0 ? "+" : "−") + Math.abs(value).toFixed(1));

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  /* Charts: each is drawn at the width of its place, and again when that changes. */

  const base = { style: { background: "none", color: "inherit", fontFamily: "inherit", fontSize: "13px", overflow: "visible" } };
  const redraws = [];

  function chart(place, title, draw) {
    const figure = make("figure", {}, make("figcaption", {}, title));
    place.append(figure);
    let drawn = null;
    const redraw = () => {
      const width = Math.floor(figure.clientWidth);
      if (!width || (drawn && drawn.of === width)) return;
      const next = Plot.plot({ ...base, width, ...draw(width) });
      next.setAttribute("role", "img");
      next.setAttribute("aria-label", title);
      if (drawn) drawn.node.remove();
      drawn = { node: next, of: width };
      figure.append(next);
    };
    redraws.push(redraw);
    redraw();
    return () => { if (drawn) drawn.of = 0; redraw(); };
  }

  function labelWidth(texts, width) {
    const longest = Math.max(0, ...texts.map((text) => text.length));
    return Math.min(longest * 7.2 + 14, width * 0.42);
  }

  function cut(text, pixels) {
    const room = Math.max(4, Math.round(pixels / 7.2));
    return text.length > room ? text.slice(0, room - 1) + "…" : text;
  }

  /* The heights of labels beside dots, so far apart that none covers another; the dots' own where there is room. */
  function spread(heights, apart, bottom) {
    const order = d3.range(heights.length).sort((a, b) => heights[a] - heights[b]);
    const placed = [];
    order.forEach((index, rank) => { placed[index] = Math.max(heights[index], rank ? placed[order[rank - 1]] + apart : 0); });
    let below = bottom + apart;
    order.reverse().forEach((index) => { placed[index] = below = Math.min(placed[index], below - apart); });
    return placed;
  }

  function scores(place) {
    const networks = data.networks.filter((network) => network.score !== null);
    if (networks.length < 2) return false;
    const rows = [...networks].sort((a, b) => b.score - a.score);
    const gained = rows.filter((row) => row.before !== null && row.after !== null);
    chart(place, `${data.score} in percent; an arrow leads from the baseline to the student`, (width) => {
      const left = labelWidth(rows.map((row) => row.label), width);
      return {
        height: 40 + 30 * rows.length, marginLeft: left, marginRight: 30, marginTop: 8,
        x: { label: null, grid: true, nice: true, ticks: Math.max(3, Math.floor(width / 90)) },
        y: { domain: rows.map((row) => row.key), label: null, tickSize: 0,
          tickFormat: (key) => cut(rows.find((row) => row.key === key).label, left - 14) },
        marks: [
          Plot.ruleY(rows.filter((row) => row.sd), { y: "key", x1: (row) => row.score - row.sd, x2: (row) => row.score + row.sd, stroke: "color", strokeWidth: 1.5 }),
          Plot.arrow(gained, { y: "key", x1: "before", x2: "after", stroke: (row) => (row.after >= row.before ? "var(--gain)" : "var(--loss)"), strokeWidth: 2.5, inset: 0, insetEnd: 7, headLength: 7 }),
          Plot.dot(rows, { y: "key", x: "score", fill: "color", r: 6 }),
          Plot.text(rows, { y: "key", x: "score", dy: -13, text: (row) => row.score.toFixed(1) + (row.gain ? ` (${row.gain})` : ""), fill: "currentColor" }),
        ],
      };
    });
    return true;
  }

  function latency(place) {
    const timed = data.networks.some((network) => network.latency !== null);
    const key = timed ? "latency" : "parameters";
    const rows = data.networks.filter((network) => network[key] > 0 && network.score !== null);
    if (rows.length < 2) return false;
    const front = [];
    for (const row of [...rows].sort((a, b) => a[key] - b[key] || b.score - a.score)) {
      if (!front.length || row.score > front[front.length - 1].score) front.push(row);
    }
    const [fastest, slowest] = d3.extent(rows, (row) => Math.log(row[key]));
    const late = (row) => Math.log(row[key]) > fastest + 0.6 * (slowest - fastest); // its label is on the left
    const title = `${data.score} in percent against ${timed ? "milliseconds of an image" : "parameters"}`;
    const [height, top, bottom] = [320, 26, 42];
    const [low, high] = d3.extent(rows, (row) => row.score);
    const y = d3.scaleLinear(low < high ? [low, high] : [low - 1, high + 1], [height - bottom, top]).nice();
    const labels = [false, true].flatMap((side) => {
      const beside = rows.filter((row) => late(row) === side);
      const heights = spread(beside.map((row) => y(row.score)), 15, height - bottom - 8);
      return beside.map((row, index) => ({ ...row, side, at: y.invert(heights[index]) }));
    });
    const named = (side) => labels.filter((row) => row.side === side);
    chart(place, title, (width) => ({
      height, marginLeft: 48, marginRight: 24, marginTop: top, marginBottom: bottom,
      x: { type: "log", label: timed ? "ms an image" : "parameters", domain: [Math.exp(fastest) / 1.6, Math.exp(slowest) * 1.6], ticks: 4, tickFormat: (value) => d3.format("~s")(value) },
      y: { label: `${data.score} %`, grid: true, domain: y.domain() },
      r: { range: [0, 18] },
      marks: [
        Plot.line(front, { x: key, y: "score", stroke: "currentColor", strokeOpacity: 0.35, strokeDasharray: "4 4" }),
        Plot.dot(rows, { x: key, y: "score", r: "parameters", fill: "color", fillOpacity: 0.75, stroke: "color" }),
        Plot.text(named(false), { x: key, y: "at", dx: 20, textAnchor: "start", text: (row) => cut(row.label, width / 3), fill: "currentColor" }),
        Plot.text(named(true), { x: key, y: "at", dx: -20, textAnchor: "end", text: (row) => cut(row.label, width / 3), fill: "currentColor" }),
        Plot.tip(rows, Plot.pointer({ x: key, y: "score", title: (row) =>
          `${row.label}\n${row.score.toFixed(1)} %${row.latency === null ? "" : `\n${row.latency.toPrecision(3)} ms`}\n${d3.format(",")(row.parameters)} parameters` })),
      ],
    }));
    return true;
  }

  function classes(place) {
    if (!data.gains.length) return false;
    let chosen = data.gains[0];
    let redraw = () => {};
    if (data.gains.length > 1) place.append(choice("student", data.gains.map((gain) => gain.label), (index) => { chosen = data.gains[index]; redraw(); }));
    const rows = () => [...chosen.rows].sort((a, b) => b.points - a.points);
    redraw = chart(place, "Points of each class above (+) or below (−) the baseline, with 95 % intervals; pale: not distinguishable from 0", (width) => {
      const sorted = rows();
      const left = labelWidth(sorted.map((row) => row.class), width);
      const ends = sorted.flatMap((row) => [row.low, row.high, row.points, 0]).filter((value) => value !== null);
      return {
        height: 34 + 24 * sorted.length, marginLeft: left, marginRight: 46, marginTop: 6,
        x: { label: null, grid: true, domain: d3.extent(ends), nice: true, ticks: Math.max(3, Math.floor(width / 90)), tickFormat: (value) => signed(value).replace(".0", "") },
        y: { domain: sorted.map((row) => row.class), label: null, tickSize: 0, tickFormat: (name) => cut(name, left - 14) },
        marks: [
          Plot.barX(sorted, { y: "class", x: "points", fill: (row) => (row.points >= 0 ? "var(--gain)" : "var(--loss)"), fillOpacity: (row) => (row.certain ? 0.9 : 0.35), insetTop: 3, insetBottom: 3 }),
          Plot.ruleY(sorted.filter((row) => row.low !== null), { y: "class", x1: "low", x2: "high", stroke: "currentColor", strokeWidth: 1.2 }),
          Plot.tickX(sorted.filter((row) => row.low !== null).flatMap((row) => [{ class: row.class, at: row.low }, { class: row.class, at: row.high }]), { y: "class", x: "at", stroke: "currentColor", insetTop: 7, insetBottom: 7 }),
          Plot.ruleX([0], { stroke: "currentColor" }),
          Plot.text(sorted, { y: "class", x: (row) => Math.max(row.points, row.high ?? row.points, 0), dx: 6, textAnchor: "start", text: (row) => signed(row.points), fill: "currentColor" }),
        ],
      };
    });
    return true;
  }

  function curves(place) {
    if (!data.curves.length) return false;
    place.classList.add("charts");
    const [score, ...losses] = data.curves;
    const column = make("div");
    place.append(curve(score), column);
    if (losses.length) column.append(curve(losses[0]));
    if (losses.length > 1) {
      column.prepend(choice("student", losses.map((chart) => chart.student), (index) => {
        const next = make("div");
        column.lastElementChild.replaceWith(next);
        curve(losses[index], next);
      }));
    }
    redraws.forEach((redraw) => redraw()); // now that their places have a width
    return true;
  }

  /* One chart of curves: thin lines of the seeds, a thick one of their mean. */
  function curve({ title, unit, lines, levels }, column = make("div")) {
    const points = lines.flatMap((line) => line.points.map(([step, value]) => ({ ...line, step, value })));
    const means = [];
    for (const [of, ofNetwork] of d3.group(points, (point) => point.of)) {
      const count = new Set(ofNetwork.map((point) => point.seed)).size;
      for (const [step, atStep] of d3.group(ofNetwork, (point) => point.step)) {
        if (atStep.length === count) means.push({ of, step, value: d3.mean(atStep, (point) => point.value), color: atStep[0].color });
      }
    }
    means.sort((a, b) => a.step - b.step);
    const several = points.some((point) => point.seed !== points.find((other) => other.of === point.of).seed);
    const describe = (point) => `${point.of}${several ? `, seed ${point.seed}` : ""}\nstep ${d3.format(",")(point.step)}: ${d3.format(".4~g")(point.value)}${unit === "%" ? " %" : ""}`;
    chart(column, title, (width) => ({
      height: 270, marginLeft: 46, marginRight: 14, marginBottom: 38,
      x: { label: "step", nice: true, ticks: Math.max(3, Math.floor(width / 100)), tickFormat: (value) => d3.format("~s")(value) },
      y: { label: unit, grid: true, nice: true, zero: true },
      marks: [
        Plot.ruleY(levels, { y: "value", stroke: "color", strokeDasharray: "5 4" }),
        several ? Plot.line(points, { x: "step", y: "value", z: (point) => `${point.of} ${point.seed}`, stroke: "color", strokeWidth: 1, strokeOpacity: 0.45 }) : null,
        Plot.line(means, { x: "step", y: "value", z: "of", stroke: "color", strokeWidth: 2.2 }),
        means.length <= 60 ? Plot.dot(means, { x: "step", y: "value", fill: "color", r: 2.4 }) : null,
        Plot.tip(points, Plot.pointer({ x: "step", y: "value", title: describe })),
      ],
    }));
    const legend = [...new Map([...lines, ...levels].map((line) => [line.of, line])).values()];
    column.append(make("div", { class: "legend" }, ...legend.map((line) =>
      make("span", {}, make("i", { style: `border-top:3px ${line.points ? "solid" : "dashed"} ${line.color}` }), line.of))));
    return column;
  }

  function reliability(place) {
    if (!data.reliability.length) return false;
    const points = data.reliability.flatMap((network) => network.bins.map((bin) => ({ ...network, ...bin })));
    chart(place, "Accuracy of the pixels of each confidence; on the diagonal a network is as right as it is sure", (width) => ({
      width: Math.min(width, 460), height: Math.min(width, 460), marginLeft: 46, marginBottom: 40, inset: 6,
      x: { label: "confidence %", domain: [0, 100], ticks: 5 }, y: { label: "accuracy %", domain: [0, 100], grid: true, ticks: 5 }, r: { range: [1, 12] },
      marks: [
        Plot.line([[0, 0], [100, 100]], { stroke: "currentColor", strokeOpacity: 0.4, strokeDasharray: "4 4" }),
        Plot.line(points, { x: "confidence", y: "accuracy", z: "of", stroke: "color" }),
        Plot.dot(points, { x: "confidence", y: "accuracy", fill: "color", r: "share", fillOpacity: 0.7 }),
        Plot.tip(points, Plot.pointer({ x: "confidence", y: "accuracy", title: (bin) => `${bin.of}\n${bin.confidence.toFixed(1)} % sure, ${bin.accuracy.toFixed(1)} % right\n${bin.share.toFixed(1)} % of the pixels` })),
      ],
    }));
    place.append(make("div", { class: "legend" }, ...data.reliability.map((network) =>
      make("span", {}, make("i", { style: `border-top:3px solid ${network.color}` }), network.of))));
    return true;
  }

  /* Confusions: a table whose cells lead to the image in which they changed most. */

  function confusions(place) {
    const kept = data.confusions.filter((confusion) => confusion.classes.length);
    if (!kept.length) return false;
    const table = make("table", { class: "confusion" });
    const answer = make("p", { class: "quiet", "aria-live": "polite" });
    const draw = (confusion) => {
      const strongest = Math.max(1, ...confusion.cells.flat().map((cell) => Math.abs(cell[2])));
      const head = make("tr", {}, make("th", { scope: "col" }, "label ↓ read as →"), ...confusion.classes.map((name) => make("th", { scope: "col" }, make("span", {}, name))));
      const body = confusion.cells.map((row, i) => make("tr", {}, make("th", { scope: "row" }, confusion.classes[i]), ...row.map(([before, after, change], j) => {
        const better = i === j ? change > 0 : change < 0;
        const share = Math.round((80 * Math.abs(change)) / strongest);
        const button = make("button", {
          type: "button", title: `${confusion.classes[i]} read as ${confusion.classes[j]}: ${before.toFixed(1)} → ${after.toFixed(1)} %`,
          style: share ? `background:color-mix(in srgb, var(--${better ? "gain" : "loss"}) ${share}%, transparent)` : null,
          onclick: () => show(confusion, i, j),
        }, Math.abs(change) < 0.05 ? "·" : signed(change));
        return make("td", {}, button);
      })));
      table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
    };
    const show = (confusion, i, j) => {
      const [label, read] = [confusion.indices[i], confusion.indices[j]];
      const [before, after] = confusion.cells[i][j];
      let best = { pixels: 0, index: -1 };
      data.pictures.forEach((picture, index) => {
        const cell = (picture.changed[confusion.student] || []).find(([a, b]) => a === label && b === read);
        if (cell && Math.abs(cell[2]) > Math.abs(best.pixels)) best = { pixels: cell[2], index };
      });
      const what = `${confusion.classes[i]} read as ${confusion.classes[j]}: ${before.toFixed(1)} → ${after.toFixed(1)} % of its pixels`;
      answer.textContent = best.index < 0 ? `${what}; in none of the images below` : `${what}; most changed in ${data.pictures[best.index].title}: ${best.pixels > 0 ? "+" : "−"}${Math.abs(best.pixels)} pixels`;
      if (best.index >= 0 && viewer) {
        const labels = data.networks.reduce((found, network) => ({ ...found, [network.key]: network.label }), {});
        viewer.show(best.index, labels[confusion.baseline], labels[confusion.student]);
      }
    };
    if (kept.length > 1) place.append(choice("student", kept.map((confusion) => confusion.label), (index) => draw(kept[index])));
    place.append(make("p", { class: "quiet" }, "Student minus baseline, in points of a label's pixels: blue is better, orange worse. A cell shows the image in which it changed most."));
    place.append(make("div", { class: "wide" }, table), answer);
    draw(kept[0]);
    return true;
  }

  function choice(name, labels, change, selected = 0) {
    const select = make("select", { onchange: () => change(select.selectedIndex) }, ...labels.map((label) => make("option", {}, label)));
    select.selectedIndex = selected;
    const field = make("label", { class: "choice" }, `${name} `, select);
    field.select = select;
    return field;
  }

  /* The viewer: an image of the reader's choice, and a slider between any two of its pictures. */

  function makeViewer() {
    const place = document.getElementById("viewer");
    const articles = [...document.querySelectorAll("article")];
    if (!place || !articles.length) return null;
    const pictures = articles.map((article) => [...article.querySelectorAll("figure")].map((figure) => ({ title: figure.querySelector("figcaption").textContent, image: figure.querySelector("img") })));
    for (const article of articles) article.style.setProperty("--image", `url("${article.querySelector("img").src}")`);
    const under = make("div", { class: "layer under" }, make("img"));
    const over = make("div", { class: "layer over" }, make("img"));
    const line = make("div", { class: "line" });
    const stage = make("div", { class: "stage" }, under, over, line);
    const range = make("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "how much of the left picture is shown", oninput: () => slide() });
    const slide = () => {
      over.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`;
      line.style.left = `${range.value}%`;
    };
    const titles = () => pictures[image.select.selectedIndex].map((picture) => picture.title);
    const update = () => {
      const shown = pictures[image.select.selectedIndex];
      for (const [element, side] of [[over, left], [under, right]]) {
        const picture = shown[side.select.selectedIndex].image;
        const image = element.firstChild;
        [image.src, image.alt, image.className] = [picture.src, picture.alt, picture.className];
        element.classList.toggle("marked", picture.parentNode.classList.contains("marked"));
      }
      const [width, height] = ["width", "height"].map((name) => Number(shown[0].image.getAttribute(name)));
      stage.style.setProperty("--image", `url("${shown[0].image.src}")`);
      stage.style.aspectRatio = `${width} / ${height}`;
      range.style.maxWidth = stage.style.maxWidth = `min(100%, ${6 * width}px, calc(70vh * ${width / height}))`;
    };
    const fill = (side, title, otherwise) => {
      const names = titles();
      side.select.replaceChildren(...names.map((name) => make("option", {}, name)));
      const found = names.indexOf(title);
      side.select.selectedIndex = found >= 0 ? found : Math.min(otherwise, names.length - 1);
    };
    const choose = (leftTitle, rightTitle) => {
      fill(left, leftTitle, 1);
      fill(right, rightTitle, titles().length - 1);
      update();
    };
    const left = choice("left", [], update);
    const right = choice("right", [], update);
    const image = choice("image", data.pictures.map((picture) => picture.title), () => choose(left.select.value, right.select.value));
    const move = (event) => {
      const box = stage.getBoundingClientRect();
      range.value = Math.round((100 * (event.clientX - box.left)) / box.width);
      slide();
    };
    stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); move(event); });
    stage.addEventListener("pointermove", (event) => { if (event.buttons) move(event); });
    place.append(make("div", { class: "choices" }, image, left, right), stage, range);
    const baseline = data.networks.find((network) => network.role === "baseline");
    image.select.selectedIndex = 0;
    const students = data.networks.filter((network) => network.role === "student" && titles().includes(network.label));
    const student = students.sort((a, b) => b.score - a.score)[0];
    choose(baseline ? baseline.label : "labels", student ? student.label : "image");
    slide();
    return {
      show(index, leftTitle, rightTitle) {
        image.select.selectedIndex = index;
        choose(leftTitle, rightTitle);
        place.scrollIntoView({ block: "start" });
        range.focus({ preventScroll: true });
      },
    };
  }

  /* Tables: the title of a column sorts by it, first the highest; again, the lowest. */

  function sortable(table) {
    const heads = [...table.querySelectorAll("thead th")];
    heads.forEach((head, column) => {
      const button = make("button", { type: "button" });
      button.append(...head.childNodes);
      if (!button.textContent.trim()) button.append("name");
      head.append(button);
      button.addEventListener("click", () => {
        const words = !head.classList.contains("number");
        const before = head.getAttribute("aria-sort");
        const ascending = before ? before === "descending" : words;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        const body = table.tBodies[0];
        const value = (row) => row.cells[column].dataset.value;
        const rows = [...body.rows].sort((a, b) => {
          const [x, y] = [value(a), value(b)];
          if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // unknown ones last
          const order = words ? x.localeCompare(y) : x - y;
          return ascending ? order : -order;
        });
        body.append(...rows);
      });
    });
  }

  const charts = { scores, latency, classes, curves, confusions, reliability };
  const viewer = makeViewer();
  document.querySelectorAll("[data-chart]").forEach((place) => {
    const drawn = charts[place.dataset.chart](place);
    const section = place.closest("section");
    if (!drawn && section && !section.querySelector("table, img")) section.hidden = true;
  });
  document.querySelectorAll("table.sortable").forEach(sortable);
  let waiting = 0;
  window.addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => redraws.forEach((redraw) => redraw()));
  });
})();
