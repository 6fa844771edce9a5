#include <shrinkwarp/models/resnet/residual.hpp>

#include <algorithm>

#include <shrinkwarp/kernels/elementwise/elementwise.hpp>
#include <shrinkwarp/models/resnet/image_layers.hpp>
#include <shrinkwarp/models/resnet/norms.hpp>

namespace shrinkwarp {

// ---- ResidualBlock -------------------------------------------------------------------------------------------------

template <class T>
struct ResidualBlock<T>::Kept {
  Bytes body, shortcut;
  MatrixView<T> sum, other;  // what they gave, where their backward passes read it
};

template <class T>
struct ResidualBlock<T>::Work {
  MatrixView<T> sum, other;  // of the body and of the shortcut; on the way back of the gradient behind the ReLU
  Bytes rest;                // of a layer at work
};

template <class T>
ResidualBlock<T>::ResidualBlock(LayerPointer<T> body, LayerPointer<T> shortcut)
    : Layer<T>(body->input(), body->output()), body_(std::move(body)), shortcut_(std::move(shortcut)) {
  const Shape& beside = shortcut_ ? shortcut_->output() : this->input();
  SHRINKWARP_REQUIRE(beside == this->output(), ShapeError, "ResidualBlock: the body gives ", this->output(),
                     ", the shortcut ", beside, ", wanted one shape");
  SHRINKWARP_REQUIRE(!shortcut_ || shortcut_->input() == this->input(), ShapeError, "ResidualBlock: the body takes ",
                     this->input(), ", the shortcut ", shortcut_->input(), ", wanted one shape");
}

template <class T>
typename ResidualBlock<T>::Kept ResidualBlock<T>::lay_out_kept(Arena& arena, const Context& context,
                                                               std::int64_t samples) const {
  Kept kept;
  kept.body = arena.vector<std::byte>(body_->kept(context, samples));
  kept.shortcut = arena.vector<std::byte>(shortcut_ ? shortcut_->kept(context, samples) : 0);
  const std::int64_t size = this->output().size();
  if (body_->reads_output()) kept.sum = arena.matrix<T>(size, samples);
  if (shortcut_ && shortcut_->reads_output()) kept.other = arena.matrix<T>(size, samples);
  return kept;
}

template <class T>
typename ResidualBlock<T>::Work ResidualBlock<T>::lay_out_work(Arena& arena, const Context& context,
                                                               std::int64_t samples, bool keeps) const {
  Work work;
  work.sum = arena.matrix<T>(this->output().size(), samples);
  work.other = arena.matrix<T>(shortcut_ ? this->output().size() : 0, samples);
  work.rest = arena.vector<std::byte>(
      std::max(body_->scratch(context, samples, keeps), shortcut_ ? shortcut_->scratch(context, samples, keeps) : 0));
  return work;
}

template <class T>
std::int64_t ResidualBlock<T>::kept(const Context& context, std::int64_t samples) const {
  Arena arena(context.device());
  lay_out_kept(arena, context, samples);
  return arena.used();
}

template <class T>
std::int64_t ResidualBlock<T>::scratch(const Context& context, std::int64_t samples, bool keeps) const {
  Arena arena(context.device());
  lay_out_work(arena, context, samples, keeps);
  return arena.used();
}

template <class T>
void ResidualBlock<T>::forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept,
                               Bytes scratch) const {
  Arena kept_arena(pass.keeps ? kept : Bytes{nullptr, 0, pass.context.device()}), arena(scratch);
  const Kept its = pass.keeps ? lay_out_kept(kept_arena, pass.context, X.cols) : Kept{};
  const Work work = lay_out_work(arena, pass.context, X.cols, pass.keeps);
  const MatrixView<T> sum = its.sum.empty() ? work.sum : its.sum, other = its.other.empty() ? work.other : its.other;
  body_->forward(pass, X, sum, its.body, work.rest);
  if (shortcut_) shortcut_->forward(pass, X, other, its.shortcut, work.rest);
  add_relu<T>(pass.context, sum, shortcut_ ? MatrixView<const T>(other) : X, Y);
}

template <class T>
void ResidualBlock<T>::backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y,
                                MatrixView<const T> dY, T beta, MatrixView<T> dX, Bytes kept, Bytes scratch) const {
  Arena kept_arena(kept), arena(scratch);
  const Kept its = lay_out_kept(kept_arena, pass.context, X.cols);
  const Work work = lay_out_work(arena, pass.context, X.cols, true);
  relu_backward<T>(pass.context, Y, dY, T(0), work.sum);
  body_->backward(pass, X, its.sum, work.sum, beta, dX, its.body, work.rest);
  if (shortcut_)
    shortcut_->backward(pass, X, its.other, work.sum, T(1), dX, its.shortcut, work.rest);
  else if (!dX.empty())
    add<T>(pass.context, work.sum, dX, dX);
}

namespace {

template <class T>
LayerPointer<T> in_sequence(std::vector<LayerPointer<T>> layers) {
  return std::make_shared<Sequential<T>>(std::move(layers));
}

/// A convolution and its normalisation, with a ReLU or not.
template <class T>
void add_convolution(ParameterList& list, const std::string& convolution, const std::string& norm, std::int64_t filters,
                     std::int64_t kernel, std::int64_t stride, bool relu, Shape& shape,
                     std::vector<LayerPointer<T>>& layers) {
  layers.push_back(std::make_shared<Convolution<T>>(list, convolution, shape, filters, kernel, stride, kernel / 2));
  shape = layers.back()->output();
  layers.push_back(std::make_shared<BatchNorm<T>>(list, norm, shape, relu));
}

template <class T>
LayerPointer<T> make_shortcut(ParameterList& list, const std::string& name, Shape shape, std::int64_t channels,
                              std::int64_t stride) {
  if (stride == 1 && shape.channels == channels) return nullptr;
  std::vector<LayerPointer<T>> layers;
  add_convolution(list, name + ".downsample.0", name + ".downsample.1", channels, 1, stride, false, shape, layers);
  return in_sequence(std::move(layers));
}

}  // namespace

template <class T>
LayerPointer<T> make_basic_block(ParameterList& list, const std::string& name, const Shape& input,
                                 std::int64_t channels, std::int64_t stride) {
  Shape shape = input;
  std::vector<LayerPointer<T>> layers;
  add_convolution(list, name + ".conv1", name + ".bn1", channels, 3, stride, true, shape, layers);
  add_convolution(list, name + ".conv2", name + ".bn2", channels, 3, 1, false, shape, layers);
  const LayerPointer<T> body = in_sequence(std::move(layers));
  return std::make_shared<ResidualBlock<T>>(body, make_shortcut<T>(list, name, input, channels, stride));
}

template <class T>
LayerPointer<T> make_bottleneck(ParameterList& list, const std::string& name, const Shape& input, std::int64_t channels,
                                std::int64_t stride) {
  Shape shape = input;
  std::vector<LayerPointer<T>> layers;
  add_convolution(list, name + ".conv1", name + ".bn1", channels, 1, 1, true, shape, layers);
  add_convolution(list, name + ".conv2", name + ".bn2", channels, 3, stride, true, shape, layers);
  add_convolution(list, name + ".conv3", name + ".bn3", 4 * channels, 1, 1, false, shape, layers);
  const LayerPointer<T> body = in_sequence(std::move(layers));
  return std::make_shared<ResidualBlock<T>>(body, make_shortcut<T>(list, name, input, 4 * channels, stride));
}

// ---- ResidualStage -------------------------------------------------------------------------------------------------

template <class T>
struct ResidualStage<T>::Kept {
  std::vector<MatrixView<T>> x;  // [T - 1]: behind each layer but the last
  std::vector<MatrixView<T>> f;  // [T]: what each branch gave
  std::vector<Bytes> branches;   // [T]
};

template <class T>
struct ResidualStage<T>::Work {
  MatrixView<T> values;    // f, where nothing is kept
  MatrixView<T> turns[2];  // x, where nothing is kept; of a way back the gradients by x and by f
  Bytes rest;
};

template <class T>
ResidualStage<T>::ResidualStage(std::vector<LayerPointer<T>> branches)
    : Layer<T>(branches.empty() ? Shape{} : branches.front()->input(),
               branches.empty() ? Shape{} : branches.front()->input()),
      branches_(std::move(branches)) {
  SHRINKWARP_REQUIRE(!branches_.empty(), ValueError, "ResidualStage: found no branches, wanted at least one");
  for (const LayerPointer<T>& branch : branches_) {
    SHRINKWARP_REQUIRE(branch->input() == this->input() && branch->output() == this->input(), ShapeError,
                       "ResidualStage: a branch takes ", branch->input(), " and gives ", branch->output(), ", wanted ",
                       this->input(), " both");
  }
}

template <class T>
typename ResidualStage<T>::Kept ResidualStage<T>::lay_out_kept(Arena& arena, const Context& context,
                                                               std::int64_t samples) const {
  Kept kept;
  for (std::size_t t = 0; t < branches_.size(); ++t) {
    if (t + 1 < branches_.size()) kept.x.push_back(arena.matrix<T>(this->input().size(), samples));
    kept.f.push_back(arena.matrix<T>(this->input().size(), samples));
    kept.branches.push_back(arena.vector<std::byte>(branches_[t]->kept(context, samples)));
  }
  return kept;
}

template <class T>
typename ResidualStage<T>::Work ResidualStage<T>::lay_out_work(Arena& arena, const Context& context,
                                                               std::int64_t samples, bool keeps) const {
  Work work;
  const std::int64_t features = this->input().size();
  for (MatrixView<T>& turn : work.turns) turn = arena.matrix<T>(features, samples);
  if (!keeps) work.values = arena.matrix<T>(features, samples);
  std::int64_t most = 0;
  for (const LayerPointer<T>& branch : branches_) most = std::max(most, branch->scratch(context, samples, keeps));
  work.rest = arena.vector<std::byte>(most);
  return work;
}

template <class T>
std::int64_t ResidualStage<T>::kept(const Context& context, std::int64_t samples) const {
  Arena arena(context.device());
  lay_out_kept(arena, context, samples);
  return arena.used();
}

template <class T>
std::int64_t ResidualStage<T>::scratch(const Context& context, std::int64_t samples, bool keeps) const {
  Arena arena(context.device());
  lay_out_work(arena, context, samples, keeps);
  return arena.used();
}

template <class T>
void ResidualStage<T>::forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept,
                               Bytes scratch) const {
  Arena kept_arena(pass.keeps ? kept : Bytes{nullptr, 0, pass.context.device()}), arena(scratch);
  const Kept its = pass.keeps ? lay_out_kept(kept_arena, pass.context, X.cols) : Kept{};
  const Work work = lay_out_work(arena, pass.context, X.cols, pass.keeps);
  MatrixView<const T> x = X;
  for (std::size_t t = 0; t < branches_.size(); ++t) {
    const MatrixView<T> next = t + 1 == branches_.size() ? Y : pass.keeps ? its.x[t] : work.turns[t % 2];
    const MatrixView<T> f = pass.keeps ? its.f[t] : work.values;
    branches_[t]->forward(pass, x, f, pass.keeps ? its.branches[t] : Bytes{}, work.rest);
    add<T>(pass.context, x, f, next);
    x = next;
  }
}

template <class T>
void ResidualStage<T>::backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T>, MatrixView<const T> dY,
                                T beta, MatrixView<T> dX, Bytes kept, Bytes scratch) const {
  Arena kept_arena(kept), arena(scratch);
  const Kept its = lay_out_kept(kept_arena, pass.context, X.cols);
  const Work work = lay_out_work(arena, pass.context, X.cols, true);
  const MatrixView<T> gradient = work.turns[0], of_branch = work.turns[1];
  copy<T>(pass.context, dY, gradient);
  for (std::size_t t = branches_.size(); t-- > 0;) {
    const MatrixView<const T> x = t == 0 ? X : MatrixView<const T>(its.x[t - 1]);
    copy<T>(pass.context, gradient, of_branch);  // for its branch adds to the first while it reads the second
    branches_[t]->backward(pass, x, its.f[t], of_branch, T(1), gradient, its.branches[t], work.rest);
  }
  if (dX.empty()) return;
  if (beta == T(0))
    copy<T>(pass.context, gradient, dX);
  else
    add<T>(pass.context, gradient, dX, dX);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                              \
  template class ResidualBlock<T>;                                                                             \
  template class ResidualStage<T>;                                                                             \
  template LayerPointer<T> make_basic_block<T>(ParameterList&, const std::string&, const Shape&, std::int64_t, \
                                               std::int64_t);                                                  \
  template LayerPointer<T> make_bottleneck<T>(ParameterList&, const std::string&, const Shape&, std::int64_t,  \
                                              std::int64_t);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
