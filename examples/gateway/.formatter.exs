[
  import_deps: [:phoenix],
  inputs: ["*.exs", "{bench,config,lib,service,test}/**/*.{ex,exs}"]
]
