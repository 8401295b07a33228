/* Asks this server's own routes, as any program would, and shows what they say. What is pasted is
   put on the page as text only, and into no address. */
(function () {
  "use strict";
  var known = [];
  /* So that trials draw the same adapter for an answer and for its reasons; nobody keeps it. */
  var somebody = "page-" + Math.random().toString(36).slice(2);
  var ids = {
    form: 0, models: 0, none: 0, "key-line": 0, key: 0, "history-line": 0, history: 0, text: 0,
    "text-label": 0, ask: 0, said: 0, answers: 0, drift: 0, drifted: 0
  };
  Object.keys(ids).forEach(function (id) { ids[id] = document.getElementById(id); });

  function made(name, words, kind) {
    var element = document.createElement(name);
    if (words !== undefined) { element.textContent = words; }
    if (kind) { element.className = kind; }
    return element;
  }

  function call(path, body) {
    var headers = { "content-type": "application/json" };
    if (ids.key.value) { headers.authorization = "Bearer " + ids.key.value; }
    var asked = { headers: headers, cache: "no-store", credentials: "same-origin" };
    if (body) { asked.method = "POST"; asked.body = JSON.stringify(Object.assign({ user: somebody }, body)); }
    return fetch(path, asked).then(function (answer) {
      return answer.json().then(function (said) {
        if (answer.ok) { return { said: said, headers: answer.headers }; }
        if (answer.status === 401 || answer.status === 403) { ids["key-line"].hidden = false; }
        throw new Error(said.error ? said.error.message : "the server says " + answer.status);
      });
    });
  }

  function look() {
    return call("/v1/models").then(function (found) {
      known = found.said.data;
      ids.models.querySelectorAll("label").forEach(function (label) { label.remove(); });
      ids.none.hidden = known.length > 0;
      ids.none.textContent = "No adapter is served.";
      known.forEach(function (model, place) {
        var label = made("label"), box = made("input");
        box.type = "checkbox";
        box.value = model.id;
        box.checked = place < 2;
        box.addEventListener("change", suit);
        label.append(box, made("span", model.id), made("small", model.task));
        ids.models.append(label);
      });
      ids.said.textContent = "";
      suit();
    }, function (error) {
      ids.none.textContent = "";
      ids.said.textContent = error.message;
      ids["key-line"].hidden = false;
    });
  }

  function chosen() {
    var names = Array.from(ids.models.querySelectorAll("input:checked"), function (box) { return box.value; });
    return known.filter(function (model) { return names.includes(model.id); });
  }

  /* The form asks for what the chosen adapters read. */
  function suit() {
    var tasks = chosen().map(function (model) { return model.task; });
    var ranks = tasks.includes("recommendation");
    ids["history-line"].hidden = !ranks;
    ids["text-label"].textContent = ranks ? "Titles to put in order, one a line"
      : tasks.includes("generation") ? "Prompt, or article" : "Text";
  }

  function lines(text) {
    return text.split("\n").map(function (line) { return line.trim(); }).filter(Boolean);
  }

  function percent(share) { return (100 * share).toFixed(share < 0.1 ? 1 : 0) + " %"; }

  function ask(model, text) {
    var name = model.id;
    if (model.task === "classification") {
      return call("/classify", { model: name, input: text }).then(function (found) { return classified(model, text, found); });
    }
    if (model.task === "tagging") {
      return call("/tag", { model: name, input: text }).then(function (found) { return tagged(model, text, found); });
    }
    if (model.task === "recommendation") {
      var body = { model: name, query: lines(ids.history.value), documents: lines(text) };
      return call("/rerank", body).then(function (found) { return ranked(model, found); });
    }
    if (model.task === "generation") { return written(model, text); }
    return Promise.reject(new Error("this page cannot ask an adapter of " + model.task + " yet"));
  }

  function sheet(model) {
    var found = made("article");
    found.append(made("h2", model.id));
    return found;
  }

  function classified(model, text, found) {
    var one = found.said.data[0], page = sheet(model);
    page.append(made("p", one.label === null ? "unsure" : String(one.label), "answer"));
    var scores = scored(model, one);
    page.append(bars(scores), read(model, found), reasons(model, text, scores), origin(found.headers));
    return page;
  }

  /* Of a text that fills what an adapter reads, perhaps not all was read. */
  function read(model, found) {
    var full = found.said.usage.prompt_tokens >= model.max_model_len;
    return made("p", full ? "Read: the first " + model.max_model_len + " tokens, and nothing after them." : "", "muted");
  }

  /* Labels are not in the answer: the model's entry has them, in the order of `probs`. */
  function scored(model, one) {
    return one.probs.map(function (share, place) {
      return { label: (model.labels || [])[place] || "label " + (place + 1), share: share };
    }).sort(function (a, b) { return b.share - a.share; });
  }

  function bars(scores) {
    var table = made("table", undefined, "bars"), body = made("tbody");
    scores.slice(0, 8).forEach(function (score) {
      var row = made("tr"), cell = made("td"), meter = made("meter", percent(score.share));
      meter.value = score.share;
      meter.setAttribute("aria-label", score.label);
      cell.append(meter);
      row.append(made("td", score.label), cell, made("td", percent(score.share)));
      body.append(row);
    });
    table.append(body);
    return table;
  }

  function reasons(model, text, scores) {
    var part = made("div"), list = made("ul", undefined, "labels"), reading = made("p", undefined, "reading");
    var how = made("p", "Shaded words speak for the label, underlined ones against it.", "muted");
    part.append(made("h3", "Which words move it"), list, reading, how);
    var buttons = scores.slice(0, 8).map(function (score) {
      var item = made("li"), button = made("button", score.label, "quiet");
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", function () { weigh(score.label, button); });
      item.append(button);
      list.append(item);
      return button;
    });

    function weigh(label, button) {
      buttons.forEach(function (other) { other.setAttribute("aria-pressed", String(other === button)); });
      reading.textContent = "…";
      call("/explain", { model: model.id, input: text, label: label }).then(function (found) {
        if (button.getAttribute("aria-pressed") === "true") {  /* none other was asked for since */
          reading.replaceChildren.apply(reading, weighed(found.said.words));
        }
      }, function (error) { reading.textContent = error.message; });
    }

    if (buttons.length) { weigh(scores[0].label, buttons[0]); }
    return part;
  }

  function weighed(words) {
    var most = Math.max.apply(null, words.map(function (one) { return Math.abs(one.adds); }).concat(1e-9));
    var parts = [];
    words.forEach(function (one) {
      var step = Math.min(3, Math.floor(3.999 * Math.abs(one.adds) / most));
      var word = made("mark", one.word, step ? (one.adds > 0 ? "up" : "down") + step : "");
      word.title = (one.adds > 0 ? "adds " : "takes ") + percent(Math.abs(one.adds));
      parts.push(word, document.createTextNode(" "));
    });
    return parts;
  }

  function tagged(model, text, found) {
    var page = sheet(model), entities = found.said.data[0].entities, list = made("ul");
    page.append(made("p", entities.length + (entities.length === 1 ? " entity" : " entities"), "answer"));
    entities.forEach(function (one) {
      var item = made("li"), mark = made("mark", String(one.text), "entity");
      mark.append(made("small", String(one.type || one.label || "")));
      item.append(mark);
      list.append(item);
    });
    page.append(list, read(model, found), origin(found.headers));
    return page;
  }

  function ranked(model, found) {
    var page = sheet(model), list = made("ol");
    found.said.results.forEach(function (one) {
      list.append(made("li", one.document.text + "  (" + percent(one.relevance_score) + ")"));
    });
    page.append(list, origin(found.headers));
    return page;
  }

  function written(model, text) {
    var chats = model.reads === "messages";
    var path = chats ? "/v1/chat/completions" : "/v1/completions";
    var body = chats ? { messages: [{ role: "user", content: text }] } : { prompt: text };
    function go(bare) {
      return call(path, Object.assign({ model: model.id, without_adapter: bare }, body));
    }
    function words(found) {
      var choice = found.said.choices[0];
      return choice.message ? choice.message.content : choice.text;
    }
    return Promise.all([go(true), go(false)]).then(function (both) {
      var page = sheet(model);
      page.append(
        made("h3", "Before: the base model alone"), made("p", words(both[0]), "written before"),
        made("h3", "With the adapter"), made("p", words(both[1]), "written"), origin(both[1].headers)
      );
      return page;
    });
  }

  function origin(headers) {
    var part = made("details", undefined, "origin"), digest = headers.get("x-presspool-adapter");
    var epsilon = headers.get("x-presspool-epsilon"), unit = headers.get("x-presspool-unit");
    var claim = epsilon === "none" ? "no privacy is claimed"
      : "ε = " + epsilon + ", δ = " + headers.get("x-presspool-delta") + " for each " + unit;
    part.append(made("summary", claim));
    part.addEventListener("toggle", function () {
      if (!part.open || part.dataset.asked) { return; }
      part.dataset.asked = "yes";
      call("/provenance/" + digest).then(function (found) {
        part.append(made("p", found.said.statement));
        (found.said.overrides || []).forEach(function (line) { part.append(made("p", line, "bad")); });
        part.append(made("p", found.said.card ? "Its privacy card lies beside it, and is of these weights." : "No privacy card was made for it."));
      }, function (error) { part.append(made("p", error.message)); });
    });
    return part;
  }

  function failed(model, error) {
    var page = sheet(model);
    page.className = "failed";
    page.append(made("p", error.message, "bad"));
    return page;
  }

  ids.form.addEventListener("submit", function (event) {
    event.preventDefault();
    var models = chosen(), text = ids.text.value.trim();
    if (!models.length || !text) { ids.said.textContent = "Choose an adapter and paste a text."; return; }
    ids.ask.disabled = true;
    ids.said.textContent = "Asking …";
    Promise.all(models.map(function (model) {
      return ask(model, text).catch(function (error) { return failed(model, error); });
    })).then(function (pages) {
      ids.answers.replaceChildren.apply(ids.answers, pages);
      ids.said.textContent = "";
      ids.ask.disabled = false;
    });
  });

  /* Asked for when it is opened: not every caller may know. */
  function drift() {
    if (!ids.drift.open) { return; }
    call("/drift").then(function (found) {
      var sheets = found.said.adapters.map(stability);
      ids.drifted.replaceChildren.apply(ids.drifted, sheets.length ? sheets : [made("p", "No adapter that reads is served.")]);
    }, function (error) { ids.drifted.replaceChildren(made("p", error.message, "bad")); });
  }

  function stability(one) {
    var part = made("section"), scroll = made("div", undefined, "scroll"), table = made("table");
    var head = made("tr"), body = made("tbody"), top = made("thead");
    ["What", "Level", "Half-life, records", "Distance", "By chance up to"].forEach(function (words, place) {
      var cell = made("th", words, place > 1 ? "number" : "");
      cell.scope = "col";
      head.append(cell);
    });
    one.figures.forEach(function (figure) {
      var row = made("tr"), name = made("th", figure.of), level = made("td", figure.level, figure.level === "drifted" ? "bad" : "");
      name.scope = "row";
      row.append(name, level);
      [figure.half_life, figure.value, figure.by_chance].forEach(function (number) {
        row.append(made("td", number === null ? "–" : String(number), "number"));
      });
      body.append(row);
    });
    top.append(head);
    table.append(top, body);
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "Drift of " + one.name);
    scroll.append(table);
    part.append(made("h2", one.name), scroll);
    return part;
  }

  ids.drift.addEventListener("toggle", drift);
  ids.key.addEventListener("change", look);
  look();
}());
