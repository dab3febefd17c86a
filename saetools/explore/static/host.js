// What an explorer asks of the Python side, and the model that a page without Python has instead.

const SLOW_MS = 60000;

// Questions to the kernel: `ask` sends one and answers with a promise; errors of Python are errors.
class Host {
  constructor(model, signal) {
    this.model = model;
    this.waiting = new Map();
    this.asked = 0;
    // Two views of one widget hear all answers: each takes those to its own questions.
    this.own = Math.random().toString(36).slice(2);
    const answer = (message) => this.answered(message);
    model.on("msg:custom", answer);
    signal.addEventListener("abort", () => model.off("msg:custom", answer));
  }

  can(what) {
    return (this.model.get("can") ?? []).includes(what);
  }

  ask(kind, payload) {
    const id = `${this.own}-${++this.asked}`;
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        this.waiting.delete(id);
        reject(new Error("Python has not answered for a minute. Is the kernel busy with a cell, or gone?"));
      }, SLOW_MS);
      this.waiting.set(id, { resolve, reject, late });
      this.model.send({ kind, id, ...payload });
    });
  }

  answered({ kind, id, ok, result, error } = {}) {
    const question = kind === "answer" ? this.waiting.get(id) : undefined;
    if (!question) return;
    this.waiting.delete(id);
    clearTimeout(question.late);
    if (ok) question.resolve(result); else question.reject(new Error(error));
  }
}

// A page has the data and no kernel: the same interface, with nobody at the other end.
class StandIn {
  constructor(values) {
    this.values = values;
  }

  get(key) {
    return this.values[key];
  }

  set(key, value) {
    this.values[key] = value;
  }

  save_changes() {}

  on() {}

  off() {}

  send() {
    throw new Error("this page has no Python at its other end");
  }
}
