// One client of a channel: the stock Socket.IO client, told where and as whom.
import { io } from "./socket.io.js";

export class Link {
  /** `hears`: connected({recovered}), told(info), lost(reason, comesBack), refused(message, code, triesAgain), event(name, args). */
  constructor(url, { token, query }, hears) {
    const socket = io(url, {
      auth: token ? { token } : {},
      query,
      forceNew: true,
      transports: ["websocket", "polling"],
      tryAllTransports: true,
    });
    socket.on("connect", () => hears.connected({ recovered: socket.recovered }));
    socket.on("disconnect", (reason) => hears.lost(reason, socket.active));
    socket.on("connect_error", (error) => hears.refused(error.message, error.data?.code, socket.active));
    socket.onAny((name, ...args) => (name === "aldis:ready" ? hears.told(args[0]) : hears.event(name, args)));
    this.socket = socket;
  }

  /** The connection breaks; the client comes back by itself. */
  cut() {
    this.socket.io.engine.close();
  }

  /** Sends an event and gives what acknowledges it, or fails after 5 s. */
  ask(event, args) {
    return this.socket.timeout(5_000).emitWithAck(event, ...args);
  }

  end() {
    this.socket.offAny();
    this.socket.off();
    this.socket.disconnect();
  }
}
