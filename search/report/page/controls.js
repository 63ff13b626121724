// What the reader can do: choose methods, the measure of memory and a point; copy a command.
"use strict";

const redraw = () => charts.forEach((c) => c.render());

function select(index) {
  const p = data.points[index];
  const box = document.getElementById("selected");
  const command = html("code", {}, `rps-search export ${p.folder} --trial ${p.trials[0]}`);
  const rows = pointRows(p).flatMap(([key, value]) => [html("dt", {}, key), html("dd", {}, value)]);
  box.replaceChildren(html("h3", {}, pointTitle(p)), html("dl", {}, rows), html("p", { class: "command" }, [command, copyButton(command)]));
  box.hidden = false;
}

function copyButton(source) {
  const button = html("button", { type: "button", class: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      // No clipboard (an old browser, a refused permission): mark the text, so that the usual keys copy it.
      getSelection().selectAllChildren(source);
      button.textContent = "Marked";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return button;
}

for (const place of document.querySelectorAll(".chips")) {
  data.methods.forEach((method, m) => {
    const icon = node("svg", { viewBox: "-9 -9 18 18", "aria-hidden": "true" }, [marker(method, 0, 0, 6, "sure")]);
    const chip = html("button", { type: "button", "aria-pressed": "true", "data-method": m }, [icon, method.name]);
    chip.addEventListener("click", () => {
      if (shown(m)) state.hidden.add(m); else state.hidden.delete(m);
      for (const same of document.querySelectorAll(`.chips button[data-method="${m}"]`)) same.setAttribute("aria-pressed", shown(m));
      redraw();
    });
    place.append(chip);
  });
}

document.getElementById("measure")?.addEventListener("change", (event) => { state.measure = event.target.value; redraw(); });
document.getElementById("cloud")?.addEventListener("change", (event) => { state.cloud = event.target.checked; redraw(); });
for (const block of document.querySelectorAll(".command")) block.append(copyButton(block.querySelector("code, pre")));

// A printed page cannot be unfolded.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
redraw();
