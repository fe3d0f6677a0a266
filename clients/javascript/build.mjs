// JavaScript without comments and types with them, both by tsc alone.
import {execFileSync} from "node:child_process"
import {rmSync} from "node:fs"

const tsc = (...options) => execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", ...options], {stdio: "inherit"})

rmSync("dist", {recursive: true, force: true})
tsc("--removeComments", "--declaration", "false")
tsc("--emitDeclarationOnly")
