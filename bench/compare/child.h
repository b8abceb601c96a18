// A child process that answers each line of JSON with a line of JSON.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace cenote_bench {

class Child {
 public:
  /// Throws std::runtime_error when it cannot be started. It gets no Ctrl-C, and ends when this goes.
  explicit Child(const std::vector<std::string>& command);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  int id() const { return id_; }
  /// Throws std::runtime_error when the child ended.
  nlohmann::json read();
  nlohmann::json ask(const nlohmann::json& question);

 private:
  int id_ = 0;
  std::FILE* to_ = nullptr;
  std::FILE* from_ = nullptr;
};

}  // namespace cenote_bench
