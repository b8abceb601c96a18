// The list of CPU targets and the table of the one in use.
#include "backend.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "cenote/runtime.h"
#include "core/check.h"
#include "cpu/target.h"

namespace cenote {

namespace {

struct NamedBackend {
  std::string name;
  Backend backend;
};

std::vector<NamedBackend> build_list() {
  std::vector<NamedBackend> list;
  const std::vector<cpu::Target> targets = cpu::supported_targets();
  for (const cpu::Target& target : targets) {
    cpu::choose_target(target);
    list.push_back(
        {target.name,
         {cpu::window(), cpu::narrow(), cpu::adaptive(), cpu::global(), cpu::unpool(), cpu::smooth(),
          cpu::select(), cpu::random(), cpu::convert(), cpu::wide_integer(), cpu::index_order(), false}});
  }
  cpu::choose_target(targets.front());
  list.push_back({"reference",
                  {reference::window,
                   {},
                   reference::adaptive,
                   reference::global,
                   reference::unpool,
                   reference::smooth,
                   reference::select,
                   reference::random,
                   reference::convert,
                   {},
                   reference::index_order,
                   true}});
  return list;
}

const std::vector<NamedBackend>& all_backends() {
  static const std::vector<NamedBackend> list = build_list();
  return list;
}

const NamedBackend* find_backend(const char* setting, const std::string& name) {
  const auto& list = all_backends();
  const auto found =
      std::find_if(list.begin(), list.end(), [&](const auto& entry) { return entry.name == name; });
  if (found != list.end()) return &*found;
  std::string known;
  for (const NamedBackend& entry : list) known += (known.empty() ? "" : ", ") + entry.name;
  fail(ErrorCode::kUnsupported, setting, "target must be one of ", known, " on this machine, got ", name);
}

const NamedBackend* default_backend() {
  const char* wanted = std::getenv("CENOTE_CPU_TARGET");
  if (wanted == nullptr || *wanted == '\0') return &all_backends().front();
  return find_backend("CENOTE_CPU_TARGET", wanted);
}

std::atomic<const NamedBackend*>& current() {
  static std::atomic<const NamedBackend*> chosen{default_backend()};
  return chosen;
}

}  // namespace

const Backend& backend() { return current().load(std::memory_order_acquire)->backend; }

const Backend& reference_backend() { return all_backends().back().backend; }

std::vector<std::string> cpu_targets() {
  std::vector<std::string> names;
  for (const NamedBackend& entry : all_backends()) names.push_back(entry.name);
  return names;
}

std::string cpu_target() { return current().load(std::memory_order_acquire)->name; }

void set_cpu_target(const std::string& name) {
  const NamedBackend* chosen = name.empty() ? &all_backends().front() : find_backend("set_cpu_target", name);
  current().store(chosen, std::memory_order_release);
}

}  // namespace cenote
